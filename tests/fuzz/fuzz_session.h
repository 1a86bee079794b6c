/*
 * fuzz_session - a session of smtpd for fuzz targets: its enqueuer is stood in for, and requires a whole, clean message or an abort; its replies are checked.
 */
#ifndef TESTS_FUZZ_SESSION_H
#define TESTS_FUZZ_SESSION_H

#include <string.h>

#include "common/envelope.h"
#include "fuzz.h"
#include "smtpd/session/command.h"

static struct { bool open; struct str body; unsigned committed; } queue = { .body = STR_INIT(1 << 24) };

void enqueuer_init(struct enqueuer *e) { (void)e; }
void enqueuer_free(struct enqueuer *e) { (void)e; }
void enqueuer_warm(struct enqueuer *e) { (void)e; }

void enqueuer_begin(struct enqueuer *e, struct bytes envelope, struct bytes trace, size_t id_offset)
{
	struct envelope parsed;
	(void)e;
	require(!queue.open && envelope_parse(envelope, &parsed) == ENV_OK);
	require(bytes_equal(bytes_slice(trace, id_offset, id_offset + MSGID_TEXT), LIT(MSGID_PLACEHOLDER)));
	queue.open = true;
	str_clear(&queue.body);
	str_add(&queue.body, trace);
}

void enqueuer_body(struct enqueuer *e, const struct bytes *spans, size_t count)
{
	(void)e;
	require(queue.open && count <= ENQUEUER_SPANS);
	for (size_t i = 0; i < count; i++)
		str_add(&queue.body, spans[i]);
}

int enqueuer_commit(struct enqueuer *e, msgid_t *id_r)
{
	(void)e;
	require(queue.open && queue.body.len > 2);
	for (size_t i = 0; i < queue.body.len; i++) {
		char c = queue.body.at[i];
		require(c != 0 && (c != '\n' || (i > 0 && queue.body.at[i - 1] == '\r')) && (c != '\r' || (i + 1 < queue.body.len && queue.body.at[i + 1] == '\n')));
	}
	require(queue.body.at[queue.body.len - 1] == '\n');
	queue.open = false;
	*id_r = ++queue.committed & 1 ? 0 : 5;
	return queue.committed % 5 == 0 ? 59 : 0;
}

void enqueuer_abort(struct enqueuer *e)
{
	(void)e;
	require(queue.open);
	queue.open = false;
}

/* ---- the client */
static struct bytes local_domains[] = { { "l.test", 6 } };
static struct bytes users[] = { { "=joe:joe:4711:4711:/x:::", 24 }, { "+j-:joe:4711:4711:/x:::", 23 } };

static void check_replies(struct bytes replies)
{
	while (replies.len > 0) {
		size_t lf = bytes_find(replies, '\n');
		require(lf >= 4 && lf < 512 && replies.at[lf - 1] == '\r' && (replies.at[3] == ' ' || replies.at[3] == '-'));
		require(replies.at[0] >= '2' && replies.at[0] <= '5' && replies.at[1] >= '0' && replies.at[1] <= '5');
		for (size_t i = 0; i + 1 < lf; i++)
			require((unsigned char)replies.at[i] >= 32 && replies.at[i] != 127);
		require(bytes_is_utf8_text(bytes_slice(replies, 0, lf - 1)));
		replies = bytes_slice(replies, lf + 1, replies.len);
	}
}

/* The octets as a client, so many at a time; all replies. `content` may be NULL. */
static void run(const struct access *access, struct content *content, struct bytes in, size_t step, struct str *replies)
{
	static struct peer peer = { .name = "unknown", .ip = "192.0.2.1", .text = "unknown[192.0.2.1]" };
	struct enqueuer e = { 0 };
	struct session s;
	queue.open = false;
	queue.committed = 0;
	require(session_init(&s, &(struct session_start){ .access = access, .enqueuer = &e, .content = content, .peer = &peer, .may_relay = in.len & 1, .in = -1, .out = -1 }));
	while (in.len > 0 && s.end == END_NOT) {
		size_t room;
		char *at = linein_space(&s.lines, &room);
		size_t n = step < room ? step : room;
		n = n < in.len ? n : in.len;
		require(room > 0);
		memcpy(at, in.at, n);
		linein_fed(&s.lines, n);
		in = bytes_slice(in, n, in.len);
		bool more = true;
		while (more) {
			more = session_process(&s);
			str_add(replies, str_bytes(&s.replies));
			str_clear(&s.replies);
		}
	}
	session_free(&s);
}

#endif
