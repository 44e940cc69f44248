/*
 * Shared texts: counted strings, and a ring of those that were given last.
 *
 * The count stands before the text; ring and stubs hold one each.  A text that
 * is no longer in the ring lives on with its stubs and is shared no more.  Pure
 * memory, loop thread only.
 */
#include "queue/reply.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct reply {
	size_t n_refs;
	char text[];
};

static struct reply *reply_of(const char *text)
{
	return CONTAINER_OF((char *)(uintptr_t)text, struct reply, text);
}

static const char *add_ref(const char *text)
{
	reply_of(text)->n_refs++;
	return text;
}

void reply_drop(const char *text)
{
	struct reply *r;

	if (text == NULL)
		return;
	r = reply_of(text);
	ASSERT(r->n_refs > 0);
	if (--r->n_refs == 0)
		free(r);
}

void reply_pool_fini(struct reply_pool *p)
{
	for (size_t i = 0; i < REPLY_RECENT; i++)
		reply_drop(p->recent[i]);
	*p = (struct reply_pool){ 0 };
}

static bool is_text(const char *reply, const char *text, size_t len)
{
	return strlen(reply) == len && memcmp(reply, text, len) == 0;
}

const char *reply_share(struct reply_pool *p, const char *text)
{
	size_t len = strnlen(text, REPLY_MAX);
	struct reply *r;

	for (size_t i = 0; i < REPLY_RECENT; i++)
		if (p->recent[i] != NULL && is_text(p->recent[i], text, len))
			return add_ref(p->recent[i]);
	r = xmalloc(sizeof(*r) + len + 1);
	r->n_refs = 1;
	memcpy(r->text, text, len);
	r->text[len] = '\0';
	reply_drop(p->recent[p->next]);
	p->recent[p->next] = r->text;
	p->next = (p->next + 1) % REPLY_RECENT;
	return add_ref(r->text);
}
