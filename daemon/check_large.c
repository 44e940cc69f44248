/*
 * Full-size segments without mail, and what became of them by TCP_INFO.
 *
 * Nothing is ever sent that SES would have to refuse: a longer command line
 * than 512 bytes may cost the session, several commands at a time need
 * PIPELINING, and padding of records exists in TLS 1.3 only.  Records of one
 * byte are legal in every TLS (SES itself sends such), and each costs 22 bytes
 * or more on the wire.  Loop thread only; owns nothing.
 */
#include "check_private.h"

#include "net/conn.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define LINE_BYTES 512 /* RFC 5321 4.5.3.1.4, with CRLF */

static bool read_info(struct conn *c, struct tcp_info *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return getsockopt(conn_fd(c), IPPROTO_TCP, TCP_INFO, info, &len) == 0;
}

static void set_cork(struct conn *c, int on)
{
	/* Without it, the segments are smaller and the test says less. */
	(void)!setsockopt(conn_fd(c), IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

void large_begin(struct large_test *t, struct conn *c)
{
	char line[LINE_BYTES];
	struct tcp_info info;

	*t = (struct large_test){ 0 };
	if (read_info(c, &info)) {
		t->mss = info.tcpi_snd_mss;
		t->bytes_before = info.tcpi_bytes_sent;
		t->segments_before = info.tcpi_data_segs_out;
	}
	memset(line, 'x', sizeof(line));
	memcpy(line, "NOOP ", 5);
	memcpy(line + sizeof(line) - 2, "\r\n", 2);
	set_cork(c, 1);
	conn_set_record_size(c, 1);
	conn_write(c, line, sizeof(line));
}

void large_written(struct conn *c)
{
	conn_set_record_size(c, 0);
	set_cork(c, 0);
}

void large_describe(
    const struct large_test *t, struct conn *c, char *buf, size_t size)
{
	struct tcp_info info;

	if (!read_info(c, &info))
		return;
	snprintf(buf, size, "%.1f kB in %u segments of up to %u bytes",
	    (double)(info.tcpi_bytes_sent - t->bytes_before) / 1000,
	    info.tcpi_data_segs_out - t->segments_before, t->mss);
}

bool large_unacked(struct conn *c, char *buf, size_t size)
{
	struct tcp_info info;

	if (!read_info(c, &info) ||
	    (info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0))
		return false;
	snprintf(buf, size,
	    "%u segments of up to %u bytes are not acknowledged, sent again %u "
	    "times",
	    info.tcpi_unacked, info.tcpi_snd_mss, info.tcpi_total_retrans);
	return true;
}
