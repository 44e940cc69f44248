#ifndef SES_TEXT_H
#define SES_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growable run of bytes; data is NULL until something was added. */
struct buf {
	char *data;
	size_t len;
	size_t cap;
};

/* Allocation that ends the program instead of returning NULL. */
void *xcalloc(size_t n, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);

void buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* As a quoted JSON string; bytes from 0x80 on become \u00XX. */
void buf_add_json(struct buf *b, const char *s, size_t n);
void buf_free(struct buf *b);

/* "NAME: " and a line on stderr. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Microseconds of the monotonic clock; seconds since 1970. */
uint64_t clock_us(void);
double clock_wall(void);

/*
 * Resolves \r \n \t \0 \\ \" \xHH of src[0..n) into out. With crlf every \n
 * becomes CR LF. False on an unknown escape.
 */
bool text_unescape(const char *src, size_t n, bool crlf, struct buf *out);

/* Strict RFC 4648 decoding; the length, or -1. out is NUL-terminated. */
long base64_decode(const char *src, size_t n, char *out, size_t cap);

/* n random letters and digits (upper case only, or mixed) and a NUL. */
void text_random(char *out, size_t n, bool upper);
/* A message id in SES's shape; out holds at least 61 + 1 bytes. */
void text_message_id(char *out, size_t cap);

/* 0 ... n, each as likely. */
unsigned long text_random_upto(unsigned long n);

/* True if word is in a list with spaces or commas between its words. */
bool text_listed(const char *list, const char *word);

/* True if s begins with prefix, whatever the case. */
bool text_prefix(const char *s, const char *prefix);

#endif
