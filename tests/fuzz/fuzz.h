/*
 * What the fuzz targets share.  A target is one file, fuzz_NAME.c, with the
 * usual entry point: libFuzzer's main() drives it in `make fuzz`, replay.c over
 * the committed inputs in `make check`.  It states properties, not only "does
 * not crash": PROPERTY() that fails is a finding.
 *
 *   corpus/NAME/       seeds, and small inputs that reach far
 *   regressions/NAME/  what broke a property once
 *   dict/NAME.dict     words for libFuzzer, where it would not find them
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "base/slice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Says what does not hold, and aborts. */
NORETURN void fuzz_broken(const char *property, const char *file, int line);
#define PROPERTY(cond)                                                         \
	((cond) ? (void)0 : fuzz_broken(#cond, __FILE__, __LINE__))

/* The input, eaten from its head; behind its end there are zeros. */
struct fuzz_in {
	const uint8_t *ptr;
	size_t len;
};
uint8_t fuzz_byte(struct fuzz_in *in);
/* At most n bytes: fewer when fewer are left. */
struct slice fuzz_bytes(struct fuzz_in *in, size_t n);
/* Up to the next byte `end`, which is eaten, or to the end. */
struct slice fuzz_until(struct fuzz_in *in, char end);
/* The same as a C string: it ends at a NUL, too; free(3). */
char *fuzz_string(struct fuzz_in *in, char end);

/* A growing run of bytes, terminated; zeroed is empty. */
struct fuzz_text {
	char *ptr;
	size_t len, size;
};
void fuzz_text_add(struct fuzz_text *t, const char *ptr, size_t len);
void fuzz_text_add_str(struct fuzz_text *t, const char *s);
/* A dot_emit, dsn_emit, ...: the text as `ctx`. */
void fuzz_text_emit(void *text, const char *ptr, size_t len);
bool fuzz_text_same(const struct fuzz_text *a, const struct fuzz_text *b);
void fuzz_text_fini(struct fuzz_text *t);

/*
 * How a stream is cut: 0 not at all, 1 after each byte, else by chance from
 * this seed.
 */
struct fuzz_cuts {
	uint8_t seed;
	uint32_t state;
};
struct fuzz_cuts fuzz_cuts(uint8_t seed);
/* The length of the next piece, of `left` > 0 bytes. */
size_t fuzz_cut(struct fuzz_cuts *cuts, size_t left);
/*
 * Hands the pieces to fn, each in memory of its own, so that a byte read
 * beyond is seen; until fn returns false.
 */
void fuzz_feed(struct slice text, uint8_t seed,
    bool (*fn)(void *ctx, const char *ptr, size_t len), void *ctx);

/* Is it canonical content so far: no CR, LF or NUL but in CRLF? */
bool fuzz_is_canonical(const char *ptr, size_t len);
/* Visible ASCII and blanks only? */
bool fuzz_is_printable(const char *ptr, size_t len);

#endif
