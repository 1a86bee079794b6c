/*
 * inject - put a message from a program or a person on this host into the queue (what qmail-inject does).
 *   runs as   the caller                                    in      fd 0 the message, its header first
 *   reads     /etc/tappal: me, defaulthost                  writes  a memory file; nothing on disk
 *   starts    enqueue (or speaks SMTP to this host's smtpd where set-uid has no effect)
 *   never     a shell; anything with rights of its own
 *   exit      0 queued | 100 permanent: usage, addresses | 111 temporary
 *   killed    before enqueue has answered: nothing was sent, or all of it
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exits.h"
#include "common/io.h"
#include "common/priv.h"
#include "outgoing.h"
#include "submit.h"

enum recipients_from { FROM_ARGUMENTS_OR_HEADER, FROM_ARGUMENTS, FROM_HEADER, FROM_BOTH };

struct inject {
	struct outgoing out;
	enum recipients_from from;
	const char *sender;        /* -f */
	bool print;                /* -n: show the message, send nothing */
	bool ignore_return_path, replace_from, replace_message_id;   /* QMAILINJECT s, f, i */
	char **arguments;
};

static _Noreturn void stop(int code, const char *text)
{
	fprintf(stderr, "inject: %s\n", text);
	exit(code);
}

static void read_arguments(struct inject *in, int argc, char **argv)
{
	int option;

	opterr = 0;
	while ((option = getopt(argc, argv, "+aAhHnNf:")) != -1) {
		switch (option) {
		case 'a': in->from = FROM_ARGUMENTS; break;
		case 'A': in->from = FROM_ARGUMENTS_OR_HEADER; break;
		case 'h': in->from = FROM_HEADER; break;
		case 'H': in->from = FROM_BOTH; break;
		case 'n': in->print = true; break;
		case 'N': in->print = false; break;
		case 'f': in->sender = optarg; break;
		default:
			stop(EXIT_YOUR_FAULT, "usage: inject [-aAhHnN] [-f sender] [recipient ...]  (tappal-inject(1) explains)");
		}
	}
	in->arguments = argv + optind;
	if (in->from == FROM_ARGUMENTS_OR_HEADER)
		in->from = *in->arguments != NULL ? FROM_ARGUMENTS : FROM_HEADER;
}

static const char *first_of(const char *const *names)
{
	for (; *names != NULL; names++) {
		const char *value = getenv(*names);

		if (value != NULL && *value != '\0')
			return value;
	}
	return NULL;
}

/* qmail-inject's environment: who the message is from, for the header and for the reverse-path. */
static void read_environment(struct inject *in, struct str *user, struct str *host)
{
	static const char *const users[] = { "QMAILUSER", "MAILUSER", "USER", "LOGNAME", NULL };
	static const char *const hosts[] = { "QMAILHOST", "MAILHOST", NULL };
	static const char *const names[] = { "QMAILNAME", "MAILNAME", "NAME", NULL };
	const char *value = getenv("QMAILINJECT");

	for (; value != NULL && *value != '\0'; value++) {
		in->ignore_return_path = in->ignore_return_path || *value == 's';
		in->replace_from = in->replace_from || *value == 'f';
		in->replace_message_id = in->replace_message_id || *value == 'i';
	}
	value = first_of(users);
	str_add(user, value != NULL ? bytes_of(value) : str_bytes(&in->out.user));
	value = first_of(hosts);
	str_add(host, value != NULL ? bytes_of(value) : in->out.host);
	value = first_of(names);
	if (value != NULL) {
		str_clear(&in->out.name);
		str_add_c(&in->out.name, value);
	}
}

/* The reverse-path, unless -f or a Return-Path: says otherwise. */
static void default_sender(struct inject *in, const struct str *user, const struct str *host)
{
	struct str raw = STR_INIT(1024), text = STR_INIT(4 * ADDRESS_MAX);
	const char *suser = getenv("QMAILSUSER"), *shost = getenv("QMAILSHOST");
	struct mailaddr addr;

	str_add(&raw, suser != NULL && *suser != '\0' ? bytes_of(suser) : str_bytes(user));
	str_add_char(&raw, '@');
	str_add(&raw, shost != NULL && *shost != '\0' ? bytes_of(shost) : str_bytes(host));
	if (mailaddr_from_raw(str_bytes(&raw), &text, &addr) != ADDR_OK)
		stop(EXIT_YOUR_FAULT, "the sender made of the user's and the host's name is no address; give one with -f");
	outgoing_sender(&in->out, &addr);
	str_free(&raw);
	str_free(&text);
}

static void read_recipients(struct inject *in)
{
	struct str why = STR_INIT(2000);

	for (char **argument = in->arguments; *argument != NULL && in->from != FROM_HEADER; argument++)
		if (!outgoing_add_argument(&in->out, *argument, &why))
			stop(EXIT_YOUR_FAULT, str_c(&why));
	str_free(&why);
}

static void print_message(int fd)
{
	char data[65536];
	ssize_t n;

	while ((n = io_read_full(fd, data, sizeof(data))) > 0)
		if (io_write_full(1, data, (size_t)n) != 0)
			stop(EXIT_SYSTEM, "the message could not be written");
}

static void send_message(struct inject *in, int fd)
{
	struct str envelope = STR_INIT(ENVELOPE_MAX);
	struct submit_answer answer;

	if (in->out.recipient_count == 0)
		stop(EXIT_YOUR_FAULT, "the message names no recipient (arguments, To, Cc, Bcc); nothing was sent");
	if (!outgoing_envelope(&in->out, &envelope))
		stop(EXIT_SYSTEM, "the envelope is too long or memory is short; nothing was sent");
	submit_message(fd, str_bytes(&envelope), &answer);
	if (answer.verdict != V_OK)
		stop(answer.verdict == V_PERM ? EXIT_YOUR_FAULT : EXIT_SYSTEM, str_c(&answer.text));
	str_free(&answer.text);
	str_free(&envelope);
}

int main(int argc, char **argv)
{
	struct inject in = { .from = FROM_ARGUMENTS_OR_HEADER };
	struct str user = STR_INIT(512), host = STR_INIT(512), why = STR_INIT(8192);
	struct compose compose = { .recipient = outgoing_recipient };

	priv_standard_descriptors();
	if (!outgoing_init(&in.out, &why))
		stop(EXIT_YOUR_FAULT, str_c(&why));
	read_arguments(&in, argc, argv);
	read_environment(&in, &user, &host);
	default_sender(&in, &user, &host);
	if (in.sender != NULL && !outgoing_set_sender(&in.out, in.sender, &why))
		stop(EXIT_YOUR_FAULT, str_c(&why));
	read_recipients(&in);
	compose.header_recipients = in.from == FROM_HEADER || in.from == FROM_BOTH;
	compose.replace_from = in.replace_from;
	compose.replace_message_id = in.replace_message_id;
	compose.host = in.out.host;
	compose.from = outgoing_from(&in.out, str_bytes(&user), str_bytes(&host));
	compose.return_path = in.sender == NULL && !in.ignore_return_path ? outgoing_sender : NULL;
	compose.context = &in.out;
	switch (compose_message(&compose, 0)) {
	case COMPOSE_OK: break;
	case COMPOSE_READ: stop(EXIT_SYSTEM, str_c(&compose.why));
	case COMPOSE_HEADER: stop(EXIT_YOUR_FAULT, str_c(&compose.why));
	}
	in.out.message_id = bytes_of(compose.message_id);
	if (in.print)
		print_message(compose.fd);
	else
		send_message(&in, compose.fd);
	outgoing_free(&in.out);
	str_free(&user);
	str_free(&host);
	str_free(&why);
	str_free(&compose.why);
	return EXIT_OK;
}
