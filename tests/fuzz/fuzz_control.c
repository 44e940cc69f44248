/*
 * The operator's socket: what is asked there, by a relay that runs.
 *
 * Input: a byte of how to cut, then request lines.  The relay is a whole one,
 * with a spool in memory, delivery paused and no port to listen on; it lives as
 * long as the process; a request that names ID_MEANT finds a message by that
 * name.  What would end it or wait for SES (drain, reload,
 * resume) is not asked.  Properties: every line is answered, by lines of JSON,
 * or the text of the metrics, and one closing OK or ERR; an answer is lines
 * without control bytes; a line that is too long has an ERR for its answer, and
 * ends the connection and nothing else; the next client is served.
 */
#include "fuzz.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "control.h"
#include "daemon.h"
#include "relay/attempt.h"
#include "relay/operate.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define PATIENCE_US (20 * US_PER_S)
#define REQUESTS_MAX 8
#define ID_MEANT "0123456789ABCDEF"

static char top[] = "/dev/shm/sesrelayd-fuzz-XXXXXX";
static struct daemon d;
static pid_t owner;

static struct operator
{
	int fd;
	struct loop_watch *watch;
	unsigned n_wanted, n_answered;
	bool ended;
	struct fuzz_text answer;
}
client;

static void silent(void *ctx, const char *line)
{
	(void)ctx;
	(void)line;
}

static void clean_up(void)
{
	char *command = xasprintf("rm -rf %s", top);

	if (getpid() != owner)
		return;
	control_close(d.control);
	relay_free(d.relay);
	rates_stop(&d.rates);
	loop_free(d.loop);
	config_free(d.config);
	PROPERTY(system(command) == 0);
	free(command);
}

static char *write_config(void)
{
	char *path = xasprintf("%s/conf", top);
	FILE *f = fopen(path, "w");

	PROPERTY(f != NULL);
	fprintf(f,
	    "ses: { endpoint = \"localhost\"; ports = \"9:starttls\"; username "
	    "= \"x\"; "
	    "password = \"y\"; };\n"
	    "smtp: { listen = \"127.0.0.1:25\"; };\n"
	    "spool: { directory = \"%s/spool\"; durability = \"none\"; "
	    "min_free = 0; };\n"
	    "control: { socket = \"%s/control\"; };\n",
	    top, top);
	PROPERTY(fclose(f) == 0 && chmod(path, 0600) == 0);
	return path;
}

static void set_up(void)
{
	char *path, *message = NULL;
	struct err err = { 0 };

	if (d.loop != NULL)
		return;
	log_capture(silent, NULL);
	clock_update();
	owner = getpid();
	PROPERTY(mkdtemp(top) != NULL);
	path = write_config();
	d.config = config_load(path, &message);
	if (d.config == NULL)
		fatal("%s", message);
	d.config_file = d.config->file;
	free(path);
	d.loop = loop_new();
	rates_start(&d.rates, d.loop);
	d.relay = relay_new(d.loop, &d.config->options, &err);
	if (d.relay == NULL)
		fatal("%s", err.text);
	relay_pause_delivery(d.relay, true);
	relay_start(d.relay);
	d.control = control_open(&d, d.config->control.socket, NULL, &err);
	if (d.control == NULL)
		fatal("%s", err.text);
	(void)atexit(clean_up);
}

/* --- a message that can be asked about --- */

static void on_committed(void *ctx, int rc, const struct err *err)
{
	(void)err;
	PROPERTY(rc == 0);
	relay_accepted(d.relay, ctx);
	loop_stop(d.loop);
}

/* Its id goes where the input has ID_MEANT. */
static void put_message(struct fuzz_text *requests)
{
	static const char content[] = "Subject: x\r\nX: \1\xff\r\n\r\nbody\r\n";
	struct message *m = message_new(id_new(clock_wall_us()));
	char id[ID_BUF], *at = requests->ptr;

	m->arrival_us = clock_wall_us();
	m->sender = xstrdup("sender@example.com");
	message_add_rcpt(m, "rcpt@example.com");
	m->peer = xstrdup("localhost[127.0.0.1]");
	m->helo = xstrdup("app");
	m->message_id = xstrdup("x@example.com");
	body_append(&m->body, content, sizeof(content) - 1);
	m->size = m->body.len;
	id_format(m->id, id);
	while ((at = memmem(at, requests->len - (size_t)(at - requests->ptr),
		    ID_MEANT, ID_LEN)) != NULL)
		memcpy(at, id, ID_LEN);
	spool_commit(d.relay->spool, m, NULL, on_committed, m);
	loop_run(d.loop);
}

/* --- the client --- */

/* How many answers are complete. */
static unsigned count_answers(const struct fuzz_text *t)
{
	struct slice rest = slice_of(t->ptr, t->len);
	unsigned n = 0;

	while (rest.len > 0 && memchr(rest.ptr, '\n', rest.len) != NULL) {
		struct slice line = slice_split(&rest, '\n');

		n += slice_eq_str(line, "OK") || slice_has_prefix(line, "ERR ");
	}
	return n;
}

static void on_answer(void *ctx)
{
	char buf[65536];
	ssize_t n = recv(client.fd, buf, sizeof(buf), MSG_DONTWAIT);

	(void)ctx;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		client.ended = true;
	else
		fuzz_text_add(&client.answer, buf, (size_t)n);
	client.n_answered = count_answers(&client.answer);
	if (client.ended || client.n_answered >= client.n_wanted)
		loop_stop(d.loop);
}

static void connect_client(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(d.config->control.socket);

	PROPERTY(len < sizeof(addr.sun_path));
	memcpy(addr.sun_path, d.config->control.socket, len + 1);
	client = (struct operator){ .fd = -1 };
	client.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	PROPERTY(client.fd >= 0);
	PROPERTY(
	    connect(client.fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	client.watch = loop_watch(d.loop, client.fd, on_answer, NULL);
}

static void disconnect_client(void)
{
	loop_unwatch(client.watch);
	close(client.fd);
	fuzz_text_fini(&client.answer);
}

static void too_late(void *ctx)
{
	(void)ctx;
	PROPERTY(!"an answer came in time");
}

/* Until all that was asked is answered, or the connection is over. */
static void wait_for_answers(unsigned n)
{
	struct loop_timer timer;

	client.n_wanted = n;
	if (client.n_answered >= n || client.ended)
		return;
	loop_timer_init(&timer, d.loop, too_late, NULL);
	loop_timer_set(&timer, PATIENCE_US);
	loop_run(d.loop);
	loop_timer_fini(&timer);
}

static void stop_turn(void *ptr)
{
	(void)ptr;
	loop_stop(d.loop);
}

/* One that was stopped before it runs would have no turn at all. */
static void run_turn(void)
{
	loop_defer(d.loop, stop_turn, NULL);
	loop_run(d.loop);
}

/* While the relay does not read, it has its turns. */
static bool send_piece(void *ctx, const char *ptr, size_t len)
{
	ssize_t n = 0;

	(void)ctx;
	while (len > 0 && !client.ended) {
		n = send(client.fd, ptr, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n < 0) {
			run_turn();
			continue;
		}
		ptr += n;
		len -= (size_t)n;
	}
	return len == 0;
}

/* --- judging --- */

static void check_line(struct slice line)
{
	bool is_json = slice_has_prefix(line, "{");
	char *copy = slice_dup(line);
	json_t *json;

	/* DEL stands for itself in JSON. */
	for (size_t i = 0; i < line.len; i++)
		PROPERTY((unsigned char)line.ptr[i] >= ' ' &&
		    (is_json || line.ptr[i] != 0x7f));
	if (is_json) {
		json = json_loads(copy, 0, NULL);
		PROPERTY(json_is_object(json));
		json_decref(json);
	}
	free(copy);
}

static void check_answers(void)
{
	struct slice rest = slice_of(client.answer.ptr, client.answer.len);

	PROPERTY(
	    rest.len == 0 || client.ended || rest.ptr[rest.len - 1] == '\n');
	while (rest.len > 0)
		check_line(slice_split(&rest, '\n'));
}

/* Verbs that are asked are those of the input, but for these. */
static bool may_ask(struct slice line)
{
	static const char *const no[] = { "drain", "reload", "resume",
		"rotate" };
	struct slice word = slice_word(&line);

	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (slice_eq_str(word, no[i]))
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char clean[] = "delete --all\ncount\n";
	struct fuzz_in in = { data, size };
	uint8_t seed = fuzz_byte(&in);
	struct fuzz_text text = { 0 };
	unsigned n = 0;
	bool too_long = false;

	set_up();
	while (in.len > 0 && n < REQUESTS_MAX && !too_long) {
		struct slice line = fuzz_until(&in, '\n');

		if (line.len > 0 && line.ptr[line.len - 1] == '\r')
			line.len--;
		if (!may_ask(line))
			continue;
		fuzz_text_add(&text, line.ptr, line.len);
		fuzz_text_add(&text, "\n", 1);
		too_long = line.len > LINE_MAX_BYTES;
		n++;
	}
	if (n > 0 && memmem(text.ptr, text.len, ID_MEANT, ID_LEN) != NULL &&
	    !too_long)
		put_message(&text);
	connect_client();
	fuzz_feed(slice_of(text.ptr, text.len), seed, send_piece, NULL);
	/* One more never comes, but the end does. */
	wait_for_answers(n + too_long);
	PROPERTY(client.n_answered == n && client.ended == too_long);
	check_answers();
	disconnect_client();

	connect_client();
	(void)send_piece(NULL, clean, sizeof(clean) - 1);
	wait_for_answers(2);
	PROPERTY(client.n_answered == 2 && !client.ended);
	PROPERTY(queue_total(d.relay->queue) == 0);
	check_answers();
	disconnect_client();
	fuzz_text_fini(&text);
	return 0;
}
