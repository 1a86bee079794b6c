/*
 * fuzz_filter - any octets as what judges a message, in a session with one message. The first octet says how: even, they are filterd's to smtpd; odd, they are
 * what a program writes (its log and, for the client, its text), and the next octet is the verdict that goes with it. Every reply is well-formed, and what
 * is queued has an envelope that can be read.
 */
#include "common/channel.h"
#include "common/io.h"
#include "common/sibling.h"
#include "fuzz_session.h"
#include "smtpd/content/content.h"
#include "smtpd/filterd/run.h"
#include "smtpd/filterd/wire.h"

static struct mouth filterd;

int __wrap_sibling_connect(const char *name, const char *account, uint64_t wait_ms);
int __wrap_sibling_connect(const char *name, const char *account, uint64_t wait_ms)
{
	(void)name;
	(void)account;
	(void)wait_ms;
	return filterd.fd;
}

/* ---- a program */

static struct run run_of(struct bytes octets)
{
	struct mouth text = mouth_of(octets, SOCK_NONBLOCK), log = mouth_of(octets, SOCK_NONBLOCK);
	struct run r = { .watch = -1, .log = log.fd, .text = text.fd, .failure = -1 };
	run_finish(&r, "test");
	require(r.said_len <= RUN_TEXT && r.line_len == 0 && r.log < 0 && r.text < 0);
	close(text.other);
	close(log.other);
	return r;
}


/* ---- the session */

static void judge(struct bytes octets)
{
	static const struct bytes dialog = LIT("EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<joe@l.test>\r\nDATA\r\nSubject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n");
	static struct bytes filters[] = { { "/bin/true", 9 } };
	struct settings settings = { .me = LIT("mx.test"), .locals = { .at = local_domains, .count = 1 }, .users = { .at = users, .count = 2 }, .databytes = 3000,
		.filters = { .at = filters, .count = 1 }, .filtertimeout = 30, .maxrcpt = 5, .maxhops = 4, .maxerrors = 12, .maxcommands = 30, .timeoutsmtpd = 300 };
	struct access access = { .settings = &settings };
	struct content content;
	struct str replies = STR_INIT(1 << 16);
	filterd = mouth_of(octets, 0);
	require(content_init(&content, &settings));
	run(&access, &content, dialog, dialog.len, &replies);
	check_replies(str_bytes(&replies));
	require(bytes_ends_nocase(str_bytes(&replies), LIT("\r\n221 2.0.0 Bye\r\n")));
	content_free(&content);
	str_free(&replies);
	close(filterd.other);
}

static void judge_program(struct bytes octets)
{
	uint8_t verdict = octets.len > 0 ? (uint8_t)((unsigned char)octets.at[0] % FILTER_VERDICTS) : FILTER_PASS;
	struct str answer = STR_INIT(RECORD_MAX);
	struct run r = run_of(bytes_slice(octets, 1, octets.len));
	require(filter_answer_encode(&(struct filter_answer){ .verdict = verdict, .filter = LIT("test"), .text = { r.said, r.said_len } }, &answer));
	judge(str_bytes(&answer));
	require(queue.committed == (verdict == FILTER_PASS || verdict == FILTER_HOLD));
	str_free(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 0)
		(data[0] % 2 == 0 ? judge : judge_program)((struct bytes){ (const char *)data + 1, size - 1 });
	return 0;
}
