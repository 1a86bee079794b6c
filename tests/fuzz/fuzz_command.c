/*
 * fuzz_command - any octets as a client. The first one says how they are cut; the replies are those of the same octets fed whole, every
 * line of them is well-formed, and what reaches the enqueuer is a whole, clean message or an abort. The enqueuer and the log are stood in for here.
 */
#include <stdlib.h>
#include <string.h>

#include "common/envelope.h"
#include "common/log.h"
#include "smtpd/session/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct { bool open; struct str body; unsigned committed; } queue = { .body = STR_INIT(1 << 24) };

static void require(bool claim)
{
	if (!claim)
		abort();
}

/* ---- stand-ins (the log by --wrap) */
void __wrap_log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_log_msg(msgid_t id, const char *format, ...) __attribute__((format(printf, 2, 3)));
void __wrap_log_info(const char *format, ...) { (void)format; }
void __wrap_log_warn(const char *format, ...) { (void)format; }
void __wrap_log_msg(msgid_t id, const char *format, ...) { (void)id; (void)format; }

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

static void run(const struct access *access, struct bytes in, size_t step, struct str *replies)
{
	static struct peer peer = { .name = "unknown", .ip = "192.0.2.1", .text = "unknown[192.0.2.1]" };
	struct enqueuer e = { 0 };
	struct session s;
	queue.open = false;
	queue.committed = 0;
	require(session_init(&s, &(struct session_start){ .access = access, .enqueuer = &e, .peer = &peer, .may_relay = in.len & 1, .in = -1, .out = -1 }));
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings settings = { .me = LIT("mx.test"), .locals = { .at = local_domains, .count = 1 }, .users = { .at = users, .count = 2 }, .databytes = 3000,
		.maxrcpt = 5, .maxhops = 4, .maxerrors = 12, .maxcommands = 30, .timeoutsmtpd = 300 };
	struct access access = { .settings = &settings };
	struct str whole = STR_INIT(1 << 24), cut = STR_INIT(1 << 24);
	if (size == 0)
		return 0;
	struct bytes in = { (const char *)data + 1, size - 1 };
	run(&access, in, in.len + 1, &whole);
	run(&access, in, 1u + data[0], &cut);
	require(bytes_equal(str_bytes(&whole), str_bytes(&cut)));
	check_replies(str_bytes(&whole));
	str_free(&whole);
	str_free(&cut);
	return 0;
}
