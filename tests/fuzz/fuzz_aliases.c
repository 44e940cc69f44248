/*
 * smtp/aliases: aliases(5) on arbitrary text.
 *
 * Input: a byte of options, then the file.  Properties: a refusal says the
 * line; what is taken ends, whatever refers to what; every name stands for
 * addresses that are visible, each once, and none of which is a pipe, a file or
 * a list to be included; asked again it says the same.
 */
#include "fuzz.h"

#include "base/mem.h"
#include "smtp/aliases.h"

#include <stdlib.h>
#include <string.h>

#define ADDRESSES_MAX 64

struct expansion {
	char *addresses[ADDRESSES_MAX];
	unsigned n, n_all;
};

static void on_address(void *ctx, const char *addr)
{
	struct expansion *e = ctx;

	PROPERTY(addr[0] != '\0' && addr[0] != '|' && addr[0] != '/');
	PROPERTY(addr[0] != ':');
	PROPERTY(fuzz_is_printable(addr, strlen(addr)));
	for (unsigned i = 0; i < e->n; i++)
		PROPERTY(strcmp(e->addresses[i], addr) != 0);
	e->n_all++;
	if (e->n < ADDRESSES_MAX)
		e->addresses[e->n++] = xstrdup(addr);
}

static void check_name(const struct aliases *a, const char *name)
{
	struct expansion one = { 0 }, two = { 0 };

	PROPERTY(aliases_expand(a, name, on_address, &one) == one.n_all);
	PROPERTY(aliases_expand(a, name, on_address, &two) == two.n_all);
	PROPERTY(one.n_all == two.n_all);
	for (unsigned i = 0; i < one.n; i++) {
		PROPERTY(strcmp(one.addresses[i], two.addresses[i]) == 0);
		free(one.addresses[i]);
		free(two.addresses[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	uint8_t options = fuzz_byte(&in);
	struct slice text = fuzz_bytes(&in, in.len);
	const char *domain = options & 1 ? "example.net" : NULL;
	struct err err = { .text = "" };
	struct aliases *a = aliases_parse(text, domain, &err);
	struct slice rest = text;

	if (a == NULL) {
		PROPERTY(err.text[0] >= '1' && err.text[0] <= '9');
		PROPERTY(strstr(err.text, ": ") != NULL);
		PROPERTY(fuzz_is_printable(err.text, strlen(err.text)));
		return 0;
	}
	check_name(a, "root");
	for (unsigned n = 0; rest.len > 0 && n < 64; n++) {
		struct slice line = slice_split(&rest, '\n');
		char *name = slice_dup(slice_trim(slice_split(&line, ':')));

		check_name(a, name);
		free(name);
	}
	aliases_free(a);
	return 0;
}
