/*
 * sendmail - the command that programs expect: sendmail, mailq and newaliases, with the options of Postfix's sendmail(1).
 *   runs as   the caller                                    in      fd 0 the message
 *   reads     /etc/tappal: me, defaulthost; all with -bv    writes  a memory file; nothing on disk
 *   starts    enqueue; smtpd (-bs); tappal (-bp, -q, mailq)
 *   never     a shell; anything with rights of its own
 *   exit      sysexits(3): 0 done | 64 usage | 65 addresses | 67 unknown user (-bv) | 69 refused | 71 75 temporary | 78 settings
 *   killed    before enqueue has answered: nothing was sent, or all of it
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/paths.h"
#include "common/priv.h"
#include "outgoing.h"
#include "submit.h"
#include "verify.h"

enum mode { MODE_DELIVER, MODE_LIST, MODE_SMTP, MODE_VERIFY, MODE_ALIASES, MODE_FLUSH, MODE_NOTHING };

struct sendmail {
	enum mode mode;
	bool dots_are_text;        /* -i */
	bool header_recipients;    /* -t */
	bool body_8bit;            /* -B 8BITMIME */
	const char *sender, *name; /* -f, -F */
	const char *flush;         /* -qR: a destination; -qI: an id */
	bool flush_id;
	struct str notify, ret, envid;
	char **arguments;
};

static _Noreturn void stop(int code, const char *text, const char *detail)
{
	fprintf(stderr, "sendmail: %s%s\n", text, detail);
	exit(code);
}

static _Noreturn void run(const char *directory, const char *name, const char *const *arguments)
{
	char path[512];
	char *argv[8] = { NULL };

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	argv[0] = path;
	for (size_t i = 0; arguments[i] != NULL && i < 6; i++)
		argv[i + 1] = strdup(arguments[i]);
	execv(path, argv);
	stop(EX_OSFILE, "cannot run ", path);
}

/* ---- options with a grammar ---- */

static void option_b(struct sendmail *m, const char *value)
{
	switch (value[0]) {
	case 'm': m->mode = MODE_DELIVER; return;
	case 'p': m->mode = MODE_LIST; return;
	case 's': m->mode = MODE_SMTP; return;
	case 'v': m->mode = MODE_VERIFY; return;
	case 'i': m->mode = MODE_ALIASES; return;
	case 'h':   /* host status database: there is none */
	case 'H': m->mode = MODE_NOTHING; return;
	case 'd':
	case 'l': stop(EX_USAGE, "-b", "d: the server is started by a supervisor; see tappal-smtpd(8)");
	case 't': stop(EX_USAGE, "-bt: there are no rules to test; `sendmail -bv address` says where mail goes", "");
	default: stop(EX_USAGE, "unknown mode -b", value);
	}
}

/* RFC 3461 4.1, with blanks around the commas and in any case, as people write it. */
static void option_notify(struct sendmail *m, const char *value)
{
	struct bytes rest = bytes_of(value);
	bool never = false;
	size_t words = 0;

	str_clear(&m->notify);
	while (rest.at != NULL) {
		struct bytes word = bytes_trim(bytes_cut(&rest, ','));
		const char *name = bytes_equal_nocase(word, LIT("success")) ? "SUCCESS" : bytes_equal_nocase(word, LIT("failure")) ? "FAILURE"
			: bytes_equal_nocase(word, LIT("delay")) ? "DELAY" : bytes_equal_nocase(word, LIT("never")) ? "NEVER" : NULL;

		if (name == NULL)
			stop(EX_USAGE, "-N takes never, or success, failure, delay with commas between; not ", value);
		never = never || name[0] == 'N';
		if (words++ > 0)
			str_add_char(&m->notify, ',');
		str_add_c(&m->notify, name);
	}
	if (never && words > 1)
		stop(EX_USAGE, "-N never stands alone; not ", value);
}

static void option_return(struct sendmail *m, const char *value)
{
	str_clear(&m->ret);
	if (strcasecmp(value, "full") == 0)
		str_add_c(&m->ret, "FULL");
	else if (strcasecmp(value, "hdrs") == 0)
		str_add_c(&m->ret, "HDRS");
	else
		stop(EX_USAGE, "-R takes full or hdrs; not ", value);
}

/* The envelope id as xtext (RFC 3461 4): + = and what is not printable in hexadecimal. */
static void option_envid(struct sendmail *m, const char *value)
{
	str_clear(&m->envid);
	for (; *value != '\0'; value++) {
		unsigned char c = (unsigned char)*value;

		if (c < 33 || c > 126 || c == '+' || c == '=')
			str_addf(&m->envid, "+%02X", c);
		else
			str_add_char(&m->envid, (char)c);
	}
	if (m->envid.failed || m->envid.len > 100)   /* RFC 3461 4.4 */
		stop(EX_USAGE, "-V: an envelope id has at most 100 characters", "");
}

static void option_body(struct sendmail *m, const char *value)
{
	if (strcasecmp(value, "8bitmime") == 0)
		m->body_8bit = true;
	else if (strcasecmp(value, "7bit") != 0)
		stop(EX_USAGE, "-B takes 7BIT or 8BITMIME; not ", value);
}

/* -q30m would make a daemon elsewhere; here queued does that already. */
static void option_queue(struct sendmail *m, const char *value)
{
	m->mode = MODE_FLUSH;
	m->flush = NULL;
	if (value == NULL || value[0] == '\0')
		return;
	if (value[0] >= '0' && value[0] <= '9')
		m->mode = MODE_NOTHING;
	else if ((value[0] == 'R' || value[0] == 'I') && value[1] != '\0')
		m->flush = value + 1;
	else
		stop(EX_USAGE, "-q takes nothing, Rdomain or Iid; not ", value);
	m->flush_id = value[0] == 'I';
}

/* -o and -O: "i", "IgnoreDots" count; all others are what sendmail's daemon would want to know. */
static void option_old(struct sendmail *m, const char *value, bool long_name)
{
	static const char dots[] = "ignoredots";

	if (!long_name)
		m->dots_are_text = m->dots_are_text || strcmp(value, "i") == 0;
	else if (strncasecmp(value, dots, sizeof(dots) - 1) == 0)
		m->dots_are_text = strcasecmp(value + sizeof(dots) - 1, "=false") != 0;
}

static void read_options(struct sendmail *m, int argc, char **argv)
{
	int option;

	opterr = 0;
	while ((option = getopt(argc, argv, "+:A:B:C:D:F:GIL:N:O:R:UV:X:b:cd::e:f:h:imno:p:q::r:stvx")) != -1) {
		switch (option) {
		case 'B': option_body(m, optarg); break;
		case 'F': m->name = optarg; break;
		case 'I': m->mode = MODE_ALIASES; break;
		case 'N': option_notify(m, optarg); break;
		case 'O': option_old(m, optarg, true); break;
		case 'R': option_return(m, optarg); break;
		case 'V': option_envid(m, optarg); break;
		case 'b': option_b(m, optarg); break;
		case 'f':
		case 'r': m->sender = optarg; break;
		case 'i': m->dots_are_text = true; break;
		case 'o':
			option_old(m, optarg, false);
			if (strcmp(optarg, "A") == 0 && argv[optind] != NULL)
				optind++;   /* -o A aliasfile */
			break;
		case 'q': option_queue(m, optarg); break;
		case 't': m->header_recipients = true; break;
		case ':': stop(EX_USAGE, "this option wants a value: ", argv[optind - 1]);
		case '?': stop(EX_USAGE, "unknown option ", argv[optind - 1]);
		default: break;   /* A C D G L U X c d e h m n p s v x: taken and without effect, as in Postfix */
		}
	}
	m->arguments = argv + optind;
}

/* ---- delivery ---- */

static void choose_sender(struct sendmail *m, struct outgoing *out)
{
	struct str why = STR_INIT(2000);
	const char *sender = m->sender != NULL ? m->sender : str_c(&out->user);

	if (!outgoing_set_sender(out, sender, &why))
		stop(EX_DATAERR, m->sender != NULL ? "-f " : "your login name cannot be a sender, give one with -f: ", str_c(&why));
	if (m->name != NULL) {
		str_clear(&out->name);
		str_add_c(&out->name, m->name);
	}
	str_free(&why);
}

static void read_recipients(struct sendmail *m, struct outgoing *out)
{
	struct str why = STR_INIT(2000);

	if (*m->arguments == NULL && !m->header_recipients)
		stop(EX_USAGE, "recipients must be given as arguments, or with -t in the header", "");
	for (char **argument = m->arguments; *argument != NULL; argument++)
		if (!outgoing_add_argument(out, *argument, &why))
			stop(EX_DATAERR, "", str_c(&why));
	str_free(&why);
}

static void compose_it(struct sendmail *m, struct outgoing *out, struct compose *c)
{
	struct mailaddr sender;

	mailaddr_parse(str_bytes(&out->sender), &sender);
	*c = (struct compose){ .dot_ends = !m->dots_are_text, .header_recipients = m->header_recipients, .host = out->host, .recipient = outgoing_recipient, .context = out };
	if (m->sender != NULL && sender.kind != ADDR_NULL) {
		compose_from(str_bytes(&out->name), sender.text, &out->from_value);
		c->from = str_bytes(&out->from_value);
	} else {
		c->from = outgoing_from(out, str_bytes(&out->user), out->host);
	}
	switch (compose_message(c, 0)) {
	case COMPOSE_OK: return;
	case COMPOSE_READ: stop(EX_IOERR, str_c(&c->why), "");
	case COMPOSE_HEADER: stop(EX_DATAERR, str_c(&c->why), "");
	}
}

static int deliver(struct sendmail *m, struct outgoing *out)
{
	struct str envelope = STR_INIT(ENVELOPE_MAX);
	struct submit_answer answer;
	struct compose c;
	int code = EX_OK;

	choose_sender(m, out);
	read_recipients(m, out);
	compose_it(m, out, &c);
	if (out->recipient_count == 0)
		stop(EX_USAGE, "the header names no recipient (To, Cc, Bcc); nothing was sent", "");
	out->body_8bit = m->body_8bit;
	out->notify = str_bytes(&m->notify);
	out->ret = str_bytes(&m->ret);
	out->envid = str_bytes(&m->envid);
	out->message_id = bytes_of(c.message_id);
	if (!outgoing_envelope(out, &envelope))
		stop(EX_OSERR, "the envelope is too long or memory is short; nothing was sent", "");
	submit_message(c.fd, str_bytes(&envelope), &answer);
	if (answer.verdict != V_OK) {
		code = answer.verdict == V_TEMP ? EX_TEMPFAIL : answer.bad_address ? EX_DATAERR : EX_UNAVAILABLE;
		fprintf(stderr, "sendmail: %s\n", str_c(&answer.text));
	}
	str_free(&answer.text);
	str_free(&c.why);
	str_free(&envelope);
	return code;
}

/* ---- the other modes ---- */

static int verify_all(struct sendmail *m)
{
	if (*m->arguments == NULL)
		stop(EX_USAGE, "-bv wants addresses", "");
	return verify_addresses(m->arguments);
}

static int aliases(void)
{
	fprintf(stderr, "newaliases: tappal reads no alias table yet, so there is nothing to rebuild; local names are in the settings aliasnames, users and virtualdomains\n");
	return EX_OK;
}

static _Noreturn void flush(const struct sendmail *m)
{
	const char *all[] = { "queue", "flush", NULL };
	const char *one[] = { "queue", "flush", m->flush, NULL };
	const char *id[] = { "queue", "retry", m->flush, NULL };

	run(path_bin, "tappal", m->flush == NULL ? all : m->flush_id ? id : one);
}

/* Who may run this may send anywhere, with or without SMTP: smtpd is told so. Not when a network client is behind the call. */
static _Noreturn void speak_smtp(void)
{
	struct stat st;

	if (fstat(STDIN_FILENO, &st) == 0 && !S_ISSOCK(st.st_mode) && getenv("TCPREMOTEIP") == NULL && getenv("REMOTE_ADDR") == NULL)
		setenv("RELAYCLIENT", "", 1);
	run(path_libexec, "smtpd", (const char *const[]){ NULL });
}

static int act(struct sendmail *m)
{
	struct str why = STR_INIT(8192);
	struct outgoing out;
	int code;

	switch (m->mode) {
	case MODE_LIST: run(path_bin, "tappal", (const char *const[]){ "queue", "list", NULL });
	case MODE_SMTP: speak_smtp();
	case MODE_FLUSH: flush(m);
	case MODE_VERIFY: return verify_all(m);
	case MODE_ALIASES: return aliases();
	case MODE_NOTHING: return EX_OK;
	case MODE_DELIVER: break;
	}
	if (!outgoing_init(&out, &why))
		stop(EX_CONFIG, str_c(&why), "");
	code = deliver(m, &out);
	outgoing_free(&out);
	str_free(&why);
	return code;
}

static enum mode mode_of_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;

	if (strstr(name, "mailq") != NULL)
		return MODE_LIST;
	return strstr(name, "newaliases") != NULL ? MODE_ALIASES : MODE_DELIVER;
}

int main(int argc, char **argv)
{
	struct sendmail m = { .notify = STR_INIT(100), .ret = STR_INIT(10), .envid = STR_INIT(1000) };
	int code;

	priv_standard_descriptors();
	m.mode = argc > 0 ? mode_of_name(argv[0]) : MODE_DELIVER;
	read_options(&m, argc, argv);
	code = act(&m);
	str_free(&m.notify);
	str_free(&m.ret);
	str_free(&m.envid);
	return code;
}
