/* tls - smtpd's room: smtpd's end of tlsd. See tls.h. */
#include "tls.h"

#include "common/clock.h"
#include "common/io.h"
#include "common/log.h"
#include "common/passing.h"
#include "common/paths.h"
#include "common/sibling.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define READY_MS 15000u           /* tlsd has processes that wait for us */

/* ---- calling */

static bool send_ask(int control, int client, int plain, const char *text, bool at_once)
{
	struct tls_ask ask = { .mode = at_once, .client = bytes_slice(bytes_of(text), 0, 400) };
	struct str out = STR_INIT(1000);
	bool ok = tls_ask_encode(&ask, &out) && passing_send(control, str_bytes(&out), (const int[]){ client, plain }, 2, 0);
	str_free(&out);
	return ok;
}

/* One record of the expected type within the time; its payload is in `reader`. */
static bool wait_record(struct record_reader *reader, unsigned type, uint64_t wait_ms, const volatile sig_atomic_t *stop, struct record *record_r)
{
	deadline_t until = deadline_in(clock_monotonic_ms(), wait_ms);
	int got;
	do
		got = record_reader_wait(reader, record_r, until);
	while (got < 0 && errno == EINTR && (stop == NULL || !*stop));
	if (got == 0)
		errno = ECONNRESET;
	else if (got == 1 && record_r->type != type)
		errno = EPROTO;
	return got == 1 && record_r->type == type;
}

/* The facts may come right behind it: they stay in the reader. */
static bool wait_ready(struct tls_call *call)
{
	struct record record;
	struct tls_ready ready;
	record_reader_init(&call->in, call->control);
	return wait_record(&call->in, REC_tls_ready, READY_MS, NULL, &record) && tls_ready_decode(record.payload, &ready);
}

bool tls_call_begin(struct tls_call *call, int client, const char *text, bool at_once)
{
	int pair[2] = { -1, -1 };
	*call = (struct tls_call){ .control = sibling_connect(SOCKET_TLSD, "root", READY_MS), .plain = -1 };
	bool ok = call->control >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0;
	call->plain = pair[0];
	ok = ok && send_ask(call->control, client, pair[1], text, at_once) && wait_ready(call);
	io_close(&pair[1]);
	if (ok)
		return true;
	log_warn("no TLS for %s: tlsd cannot be asked: %s", text, strerror(errno));
	tls_call_abandon(call);
	return false;
}

void tls_call_abandon(struct tls_call *call)
{
	if (call->control >= 0) {
		close(call->control);
		record_reader_free(&call->in);
	}
	if (call->plain >= 0)
		close(call->plain);
	*call = (struct tls_call){ .control = -1, .plain = -1 };
}

/* ---- what came of it */

/* For log lines and the trace header's comments (RFC 5322 3.2.2): nothing that could end or open one. */
static void copy_text(struct bytes from, char *to, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < from.len && n + 1 < size; i++) {
		char c = from.at[i];
		to[n++] = c >= ' ' && c < 127 && strchr("()<>\"\\", c) == NULL ? c : '?';
	}
	to[n] = '\0';
}

/* Our own tlsd's words, whose brackets belong there: "RSA-PSS (2048 bits)". */
static void copy_own(struct bytes from, char *to, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < from.len && n + 1 < size; i++)
		to[n++] = from.at[i] >= ' ' && from.at[i] < 127 && from.at[i] != '\\' ? from.at[i] : '?';
	to[n] = '\0';
}

static bool is_balanced(const char *text)
{
	int depth = 0;
	for (; *text != '\0' && depth >= 0; text++)
		depth += *text == '(' ? 1 : *text == ')' ? -1 : 0;
	return depth == 0;
}

static void copy_facts(const struct tls_facts *f, struct tls_session *t)
{
	*t = (struct tls_session){ .on = true, .resumed = f->resumed, .bits = f->bits, .algorithm_bits = f->algorithm_bits, .certificate = f->certificate };
	copy_text(f->protocol, t->protocol, sizeof t->protocol);
	copy_text(f->cipher, t->cipher, sizeof t->cipher);
	copy_own(f->exchange, t->exchange, sizeof t->exchange);
	if (!is_balanced(t->exchange))
		t->exchange[0] = '\0';
	copy_text(f->sni, t->sni, sizeof t->sni);
	copy_text(f->alpn, t->alpn, sizeof t->alpn);
	copy_text(f->subject, t->subject, sizeof t->subject);
	copy_text(f->issuer, t->issuer, sizeof t->issuer);
	for (size_t i = 0; i < f->fingerprint.len && i < 32; i++)
		snprintf(t->fingerprint + 2 * i, 3, "%02x", (unsigned)(unsigned char)f->fingerprint.at[i]);
	t->binding_len = f->binding.len == TLS_BINDING ? TLS_BINDING : 0;
	if (t->binding_len > 0)
		memcpy(t->binding, f->binding.at, TLS_BINDING);
}

bool tls_call_end(struct tls_call *call, uint64_t wait_ms, const volatile sig_atomic_t *stop, struct tls_session *tls_r, char *error)
{
	struct record record;
	struct tls_facts facts;
	bool came = wait_record(&call->in, REC_tls_facts, wait_ms, stop, &record);
	bool good = came && tls_facts_decode(record.payload, &facts);
	if (!came)
		snprintf(error, TLS_ERROR_MAX + 1, "tlsd: %s", strerror(errno));
	else if (!good)
		snprintf(error, TLS_ERROR_MAX + 1, "tlsd answers nonsense");
	else if (!facts.ok)
		copy_text(facts.error, error, TLS_ERROR_MAX + 1);
	good = good && facts.ok == 1;
	if (good)
		copy_facts(&facts, tls_r);
	if (!good) {
		tls_call_abandon(call);
		return false;
	}
	close(call->control);
	record_reader_free(&call->in);
	call->control = -1;
	return true;
}
