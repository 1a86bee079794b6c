/* macros - smtpd's room: names and values for milters. See macros.h. */
#include "macros.h"

#include "content.h"

#include "common/clock.h"
#include "common/route.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Filled from the left; at most 300 octets of text of our own. */
struct scratch { char text[DOMAIN_MAX + NETADDR_TEXT + 300]; };

static struct bytes name_of_host(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return s->settings->me; }
static struct bytes client_text(const struct session *s, const struct command *c, struct scratch *x)
{
	(void)c;
	int n = snprintf(x->text, sizeof x->text, "%s [%s]", s->peer->name, s->peer->ip);
	return (struct bytes){ x->text, (size_t)n };
}
static struct bytes client_addr(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return bytes_of(s->peer->ip); }
static struct bytes client_name(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return bytes_of(s->peer->name); }
static struct bytes version(const struct session *s, const struct command *c, struct scratch *x) { (void)s; (void)c; (void)x; return LIT("tappal"); }

static struct bytes daemon_name(const struct session *s, const struct command *c, struct scratch *x)
{
	static const char *const names[] = { [ROLE_RELAY] = "relay", [ROLE_SUBMISSION] = "submission", [ROLE_SUBMISSIONS] = "submissions" };
	(void)c;
	(void)x;
	return bytes_of(names[s->role]);
}

static struct bytes own_address(const struct session *s, const struct command *c, struct scratch *x)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	struct netaddr addr;
	(void)c;
	if (!s->peer->is_socket || getsockname(s->in, (struct sockaddr *)&sa, &len) < 0 || !netaddr_from_sockaddr((struct sockaddr *)&sa, len, &addr))
		return LIT("");
	netaddr_format(&addr, x->text);
	return bytes_of(x->text);
}

static struct bytes date(const struct session *s, const struct command *c, struct scratch *x)
{
	struct str out = STR_INIT(sizeof x->text - 1);
	(void)s;
	(void)c;
	clock_rfc5322(clock_wall_ms(), &out);
	memcpy(x->text, str_c(&out), out.len);
	size_t len = out.len;
	str_free(&out);
	return (struct bytes){ x->text, len };
}

static struct bytes tls_version(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return bytes_of(s->tls.on ? s->tls.protocol : ""); }
static struct bytes tls_cipher(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return bytes_of(s->tls.on ? s->tls.cipher : ""); }
static struct bytes tls_subject(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return bytes_of(s->tls.on ? s->tls.subject : ""); }
static struct bytes tls_issuer(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return bytes_of(s->tls.on ? s->tls.issuer : ""); }

static struct bytes tls_bits(const struct session *s, const struct command *c, struct scratch *x)
{
	(void)c;
	int n = s->tls.on ? snprintf(x->text, sizeof x->text, "%u", s->tls.bits) : 0;
	return (struct bytes){ x->text, (size_t)n };
}

static struct bytes login(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return bytes_of(s->login); }
static struct bytes login_type(const struct session *s, const struct command *c, struct scratch *x)
{
	(void)c;
	(void)x;
	return bytes_of(s->login[0] != '\0' && s->mechanism != NULL ? s->mechanism : "");
}
static struct bytes tag(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return bytes_of(s->content->tag); }
static struct bytes message_id(const struct session *s, const struct command *c, struct scratch *x) { (void)c; (void)x; return bytes_of(s->message.message_id); }

/* The address that a command has, or the sender when it is known. */
static const struct mailaddr *address(const struct session *s, const struct command *c) { return c != NULL ? &c->addr : &s->mail.sender; }
static struct bytes addr_text(const struct session *s, const struct command *c, struct scratch *x) { (void)x; return address(s, c)->text; }
static struct bytes addr_host(const struct session *s, const struct command *c, struct scratch *x) { (void)x; return address(s, c)->domain; }
static struct bytes addr_mailer(const struct session *s, const struct command *c, struct scratch *x)
{
	(void)x;
	return route_is_ours(s->settings, address(s, c)) ? LIT("local") : LIT("esmtp");
}

static const struct macro {
	const char *name;
	struct bytes (*value)(const struct session *s, const struct command *c, struct scratch *x);
} macros[] = {
	{ "j", name_of_host }, { "_", client_text }, { "v", version }, { "b", date }, { "i", tag },
	{ "{daemon_name}", daemon_name }, { "{if_name}", name_of_host }, { "{if_addr}", own_address }, { "{daemon_addr}", own_address },
	{ "{client_addr}", client_addr }, { "{client_name}", client_name }, { "{client_ptr}", client_name },
	{ "{tls_version}", tls_version }, { "{cipher}", tls_cipher }, { "{cipher_bits}", tls_bits }, { "{cert_subject}", tls_subject }, { "{cert_issuer}", tls_issuer },
	{ "{auth_type}", login_type }, { "{auth_authen}", login }, { "{auth_author}", login }, { "{msg_id}", message_id },
	{ "{mail_addr}", addr_text }, { "{mail_host}", addr_host }, { "{mail_mailer}", addr_mailer },
	{ "{rcpt_addr}", addr_text }, { "{rcpt_host}", addr_host }, { "{rcpt_mailer}", addr_mailer },
};

static const char *const usual[MILTER_STAGES] = {
	[STAGE_OF_CONNECT] = "j _ v {daemon_name} {if_name} {if_addr} {client_addr} {client_name}",
	[STAGE_OF_HELO] = "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
	[STAGE_OF_MAIL] = "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}",
	[STAGE_OF_RCPT] = "{rcpt_addr} {rcpt_host} {rcpt_mailer}",
	[STAGE_OF_DATA] = "i", [STAGE_OF_HEADERS_END] = "i", [STAGE_OF_BODY_END] = "i {msg_id}",
};

/* "{mail_host}" is also asked for as "mail_host". */
static const struct macro *find(struct bytes name)
{
	for (size_t i = 0; i < sizeof macros / sizeof *macros; i++) {
		struct bytes own = bytes_of(macros[i].name);
		if (bytes_equal(name, own) || (own.len > 1 && bytes_equal(name, bytes_slice(own, 1, own.len - 1))))
			return &macros[i];
	}
	return NULL;
}

void macros_add(const struct session *s, const struct command *c, struct milter *m, enum milter_stage stage, enum milter_command kind)
{
	struct bytes names = m->options.macros[stage].at != NULL ? m->options.macros[stage] : bytes_of(usual[stage]);
	size_t begun = milter_begin(&m->out, MILTER_MACRO), empty;
	str_add_char(&m->out, (char)kind);
	empty = m->out.len;
	for (size_t at = 0; at < names.len;) {
		size_t end = at;
		while (end < names.len && names.at[end] != ' ' && names.at[end] != ',')
			end++;
		const struct macro *macro = find(bytes_slice(names, at, end));
		struct scratch scratch;
		struct bytes value = macro != NULL ? macro->value(s, c, &scratch) : LIT("");
		if (value.len > 0) {
			milter_add_text(&m->out, bytes_of(macro->name));
			milter_add_text(&m->out, value);
		}
		at = end + 1;
	}
	if (m->out.len > empty)
		milter_end(&m->out, begun);
	else
		str_truncate(&m->out, begun);
}
