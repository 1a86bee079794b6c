/* starttls - smtpd's room: a session's way into TLS. See starttls.h. */
#include "starttls.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 5000u         /* tlsd keeps the handshake's time; this is for a tlsd that does not */

bool starttls_offered(const struct session *s)
{
	return !s->tls.on && !s->xclient && s->settings->starttls && s->settings->tlscertificates.count > 0 && s->peer->is_socket;
}

/* RFC 3207 4.2, and CVE-2011-0411 and its kin: what came in with STARTTLS was written by whoever could write into the plaintext. It is
 * neither carried out nor thrown away: a client that sends it does not wait for replies, and gets no further. */
bool starttls_check(struct session *s, struct command *c)
{
	(void)c;
	if (s->tls.on)
		session_reply(s, 503, "5.5.1", "TLS is on already");
	else if (!starttls_offered(s))
		session_no_command(s);
	else if (s->state == ST_START)
		session_reply(s, 503, "5.5.1", "Say HELO or EHLO first");
	else if (s->login[0] != '\0')
		session_reply(s, 503, "5.5.1", "STARTTLS comes before AUTH");
	else if (linein_rest(&s->lines).len > 0) {
		session_reject(s, NULL, 554, "5.5.0", "Commands behind STARTTLS in the same breath");
		s->end = END_ERRORS;
	} else {
		return true;
	}
	return false;
}

void starttls_act(struct session *s, struct command *c)
{
	(void)c;
	if (tls_call_begin(&s->tls_call, s->in, s->peer->text, false))
		session_reply(s, 220, "2.0.0", "Ready to start TLS");
	else
		session_reply(s, 454, "4.7.0", "TLS is not available now");
}

/* The plaintext takes the connection's place under the same number, and the connection is tlsd's alone. */
static bool replace(int old, int plain)
{
	int flags = fcntl(old, F_GETFD);
	return flags >= 0 && dup3(plain, old, flags & FD_CLOEXEC ? O_CLOEXEC : 0) == old;
}

static const char *certificate_words(const struct tls_session *t)
{
	return t->certificate == 0 ? "Anonymous" : t->certificate == 2 ? "Trusted" : "Untrusted";
}

static void log_established(const struct session *s)
{
	const struct tls_session *t = &s->tls;
	log_info("%s TLS connection established from %s: %s with cipher %s (%u/%u bits)%s%s%s%s%s%s%s", certificate_words(t), s->peer->text, t->protocol,
		t->cipher, t->bits, t->algorithm_bits, t->exchange[0] ? " " : "", t->exchange, t->resumed ? " resumed" : "", t->sni[0] ? " to SNI " : "", t->sni,
		t->certificate ? " fingerprint=" : "", t->fingerprint);
}

bool starttls_finish(struct session *s)
{
	char error[TLS_ERROR_MAX + 1];
	if (!tls_call_end(&s->tls_call, s->settings->tlstimeout * SECOND_MS + PATIENCE_MS, s->stop, &s->tls, error)) {
		log_info("SSL_accept error from %s: %s", s->peer->text, error);
		s->end = END_LOST;
		return false;
	}
	bool ok = replace(s->in, s->tls_call.plain) && (s->out == s->in || replace(s->out, s->tls_call.plain));
	tls_call_abandon(&s->tls_call);
	if (!ok) {
		log_warn("no way into TLS for %s: %s", s->peer->text, strerror(errno));
		s->end = END_LOST;
		return false;
	}
	log_established(s);
	/* RFC 3207 4.2: nothing that was said before counts. */
	session_end_transaction(s);
	session_begin_anew(s);
	s->prepared = false;
	return true;
}

bool starttls_at_once(struct session *s)
{
	if (s->peer->is_socket && tls_call_begin(&s->tls_call, s->in, s->peer->text, true))
		return starttls_finish(s);
	s->end = END_LOST;
	return false;
}

void starttls_trace(const struct session *s, struct str *out)
{
	const struct tls_session *t = &s->tls;
	if (!t->on)
		return;
	str_addf(out, "(using %s with cipher %s (%u/%u bits)", t->protocol, t->cipher, t->bits, t->algorithm_bits);
	if (t->exchange[0])
		str_addf(out, "\r\n\t %s", t->exchange);
	str_add_c(out, ")\r\n\t");
	if (t->certificate)
		str_addf(out, "(Client %s, issuer %s (%s))\r\n\t", t->subject, t->issuer, t->certificate == 2 ? "verified OK" : "not verified");
}
