/*
 * load_message.c - envelope and content of message n.
 *
 * All is a function of the options and n (the date is that of the start of
 * the run), so a message sent again is the same to the byte. The content is
 * made piece by piece into whatever room there is, so the memory needed does
 * not grow with --size. --size counts headers and body as the recipient sees
 * them, without dot stuffing; the body ends with what is left over, and a
 * size below that of the headers gives headers alone.
 */
#include <stdio.h>
#include <string.h>

#include "load.h"

static const char alphabet[65] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

uint64_t hash_string(const char *s)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	while (*s)
		h = (h ^ (unsigned char)*s++) * 0x100000001b3ULL;
	return h;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static uint64_t draw(uint64_t *rng)
{
	uint64_t x = *rng;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *rng = x;
}

/* Copies an address; the first %d in it becomes the number. */
static void expand(
    char out[ADDRESS_MAX + 24], const char *pattern, uint64_t number)
{
	const char *mark = strstr(pattern, "%d");

	if (!mark)
		snprintf(out, ADDRESS_MAX + 24, "%s", pattern);
	else
		snprintf(out, ADDRESS_MAX + 24, "%.*s%llu%s",
		    (int)(mark - pattern), pattern, (unsigned long long)number,
		    mark + 2);
}

/* Command 0 is MAIL, 1 to rcpts are RCPT, the one after is DATA. */
size_t make_command(
    const struct run *run, uint64_t number, unsigned int index, char *out)
{
	const struct options *opt = &run->opt;
	char address[ADDRESS_MAX + 24];
	int n;

	if (index == 0) {
		expand(address, opt->from, number);
		n = snprintf(out, UNIT_MAX, "MAIL FROM:<%s>\r\n", address);
	} else if (index <= opt->rcpts) {
		expand(address, opt->to, number * opt->rcpts + index - 1);
		n = snprintf(out, UNIT_MAX, "RCPT TO:<%s>\r\n", address);
	} else {
		n = snprintf(out, UNIT_MAX, "DATA\r\n");
	}
	return (size_t)n;
}

void generator_start(
    const struct run *run, struct generator *gen, uint64_t number)
{
	memset(gen, 0, sizeof(*gen));
	gen->number = number;
	gen->rng = mix(run->opt.seed ^ mix(number)) | 1;
	gen->left = run->opt.size;
	gen->part = GEN_HEAD;
}

static size_t make_head(
    const struct run *run, const struct generator *gen, char *out)
{
	const struct options *opt = &run->opt;
	char from[ADDRESS_MAX + 24], to[ADDRESS_MAX + 24];
	unsigned long long number = gen->number;

	expand(from, opt->from, number);
	expand(to, opt->to, number * opt->rcpts);
	return (size_t)snprintf(out, UNIT_MAX,
	    "From: <%s>\r\n"
	    "To: <%s>\r\n"
	    "Subject: load %s %llu\r\n"
	    "Date: %s\r\n"
	    "Message-ID: <%s.%llu@load.test>\r\n"
	    "X-Load-Number: %llu\r\n"
	    "\r\n",
	    from, to, opt->prefix, number, run->date, opt->prefix, number,
	    number);
}

static void make_text(uint64_t *rng, char *out, size_t length)
{
	uint64_t word;
	int i;

	while (length >= 10) {
		word = draw(rng);
		for (i = 0; i < 10; i++, word >>= 6)
			out[i] = alphabet[word & 63];
		out += 10;
		length -= 10;
	}
	for (word = draw(rng); length; length--, word >>= 6)
		*out++ = alphabet[word & 63];
}

/*
 * One line of the body. Line 2 is a lone dot, and one in eight begins with
 * a dot; on the wire both have a second one in front.
 */
static size_t make_line(struct generator *gen, char *out)
{
	unsigned int line = gen->line++;
	size_t length = gen->left - 2, dots = 0;

	if (gen->left > 100)
		length = line == 2 ? 1 : 70 + draw(&gen->rng) % 9;
	if (length && (line == 2 || line % 8 == 5)) {
		*out++ = '.';
		*out++ = '.';
		dots = 2;
		make_text(&gen->rng, out, length - 1);
		out += length - 1;
	} else {
		make_text(&gen->rng, out, length);
		out += length;
	}
	out[0] = '\r';
	out[1] = '\n';
	gen->left -= length + 2;
	return length + (dots ? 1 : 0) + 2;
}

/*
 * Makes as much of the content, final dot included, as fits into the room,
 * which is at least UNIT_MAX. The part is GEN_DONE after the last byte.
 */
size_t generator_fill(
    const struct run *run, struct generator *gen, char *out, size_t room)
{
	size_t used = 0;

	if (gen->part == GEN_HEAD) {
		used = make_head(run, gen, out);
		gen->total = used > gen->left ? used : gen->left;
		gen->left = gen->total - used;
		gen->part = GEN_BODY;
	}
	while (gen->part == GEN_BODY && room - used > 128) {
		if (gen->left < 2)
			gen->part = GEN_DOT;
		else
			used += make_line(gen, out + used);
	}
	if (gen->part == GEN_DOT && room - used > 128) {
		memcpy(out + used, ".\r\n", 3);
		used += 3;
		gen->part = GEN_DONE;
	}
	return used;
}
