/*
 * Whole numbers as text, for what is written once a message and more often:
 * printf(3) costs more than all else in such a line.
 */
#ifndef BASE_DECIMAL_H
#define BASE_DECIMAL_H

#include "base/base.h"

#define DECIMAL_BUF 21 /* 20 digits and NUL */

/* Returns buf, terminated. */
static inline const char *decimal_format(uint64_t value, char buf[DECIMAL_BUF])
{
	char digits[DECIMAL_BUF];
	size_t n = 0;

	do
		digits[n++] = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	for (size_t i = 0; i < n; i++)
		buf[i] = digits[n - 1 - i];
	buf[n] = '\0';
	return buf;
}

#endif
