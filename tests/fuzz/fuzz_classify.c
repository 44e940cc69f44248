/*
 * smtp/classify: every reply and every loss means something, and never more
 * than it may.
 *
 * Input: bytes for phase, kind and loss, then the lines of a reply, which the
 * parser has to take.  Properties: delivered is a 2xx to the dot and nothing
 * else; nothing before MAIL, and nothing that speaks of credentials, fails a
 * message; what ends in doubt is in doubt only behind the dot; status codes are
 * d.d.d of the class of the outcome; words are bounded, visible, and there
 * where a person has to act.
 */
#include "fuzz.h"

#include "smtp/classify.h"

#include <string.h>

static bool fails(const struct verdict *v)
{
	return v->class == VERDICT_MSG_FAILED ||
	    v->class == VERDICT_RCPT_FAILED || v->class == VERDICT_SPLIT;
}

static void check_status(const struct verdict *v)
{
	const char *p = v->dsn;

	PROPERTY(memchr(p, '\0', sizeof(v->dsn)) != NULL);
	PROPERTY(strlen(p) >= 5 && p[1] == '.');
	PROPERTY(strspn(p, "0123456789.") == strlen(p));
	PROPERTY(p[0] == '2' || p[0] == '4' || p[0] == '5');
	PROPERTY(v->class != VERDICT_DELIVERED || p[0] == '2');
	PROPERTY((v->class != VERDICT_MSG_FAILED &&
		     v->class != VERDICT_RCPT_FAILED) ||
	    p[0] == '5');
	PROPERTY(p[0] != '2' || v->class == VERDICT_DELIVERED || v->class == 0);
}

static void check(enum phase phase, const struct verdict *v)
{
	PROPERTY((unsigned)v->class < VERDICT_N);
	PROPERTY(verdict_class_name(v->class) != NULL);
	PROPERTY(memchr(v->text, '\0', sizeof(v->text)) != NULL);
	PROPERTY(v->text[0] != '\0');
	for (const char *p = v->text; *p != '\0'; p++)
		PROPERTY((unsigned char)*p >= ' ' && *p != 0x7f);
	check_status(v);
	PROPERTY(!fails(v) || phase >= PHASE_MAIL);
	PROPERTY(!fails(v) || phase <= PHASE_DOT);
	PROPERTY((v->class != VERDICT_UNCERTAIN) || phase == PHASE_DOT);
	PROPERTY(v->class != VERDICT_DELIVERED || phase == PHASE_DOT);
	PROPERTY(v->advice == NULL ||
	    (strlen(v->advice) > 10 &&
		fuzz_is_printable(v->advice, strlen(v->advice))));
	if (v->class == VERDICT_HOLD_AUTH || v->class == VERDICT_HOLD_ACCOUNT ||
	    v->class == VERDICT_DAILY || v->class == VERDICT_UNCERTAIN)
		PROPERTY(v->advice != NULL);
}

static void check_reply(
    enum phase phase, const struct reply *r, bool unexpected)
{
	struct verdict v;

	if (unexpected) {
		classify_unexpected(phase, r, &v);
		PROPERTY(v.close && !fails(&v) && v.class != VERDICT_DELIVERED);
		PROPERTY(v.code == r->code);
	} else {
		classify_reply(phase, r, &v);
		PROPERTY(v.code == r->code);
		PROPERTY((v.class == VERDICT_DELIVERED) ==
		    (phase == PHASE_DOT && r->code / 100 == 2));
		PROPERTY(r->code < 400 || v.class != VERDICT_NONE ||
		    phase == PHASE_QUIT);
		PROPERTY((r->code != 530 && r->code != 535) || !fails(&v));
		PROPERTY(phase != PHASE_QUIT || v.class == VERDICT_NONE ||
		    r->code / 100 != 2);
	}
	check(phase, &v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = { data, size };
	enum phase phase = (enum phase)(fuzz_byte(&in) % PHASE_N);
	uint8_t kind = fuzz_byte(&in);
	enum loss loss = (enum loss)(fuzz_byte(&in) % (LOSS_SHUTDOWN + 1));
	struct reply_parser parser;
	struct verdict v;
	int rc = 0;

	classify_loss(phase, loss, kind & 2 ? "reason" : NULL, &v);
	PROPERTY(v.close && !fails(&v) && v.class != VERDICT_DELIVERED);
	check(phase, &v);
	reply_parser_init(&parser);
	while (in.len > 0 && rc >= 0) {
		rc = reply_feed(&parser, fuzz_until(&in, '\n'), NULL, NULL);
		if (rc == 1)
			check_reply(phase, &parser.reply, kind & 1);
	}
	return 0;
}
