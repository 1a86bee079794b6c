/*
 * verify - see verify.h. Room: local, the caller's own uid.
 */
#include "verify.h"

#include <stdio.h>
#include <sysexits.h>

#include "common/mailbox.h"
#include "common/paths.h"
#include "common/route.h"
#include "header.h"

struct verify { struct settings settings; int code; };

static void worse(struct verify *v, int code)
{
	if (v->code == EX_OK)
		v->code = code;
}

static void say_local(struct verify *v, const struct mailaddr *addr, const struct route *route, struct str *out)
{
	struct mailbox box;

	switch (mailbox_find(&v->settings, addr, route, &box)) {
	case MAILBOX_FOUND:
		str_addf(out, "local, mailbox of %s (uid %lu) in %s", box.user, (unsigned long)box.uid, box.home);
		if (box.extension[0] != '\0')
			str_addf(out, ", extension %s", box.extension);
		return;
	case MAILBOX_NONE:
		str_addf(out, "local, but there is no such mailbox (nor a user of uid %llu or more who owns his home directory): mail would be refused with 550 5.1.1",
			(unsigned long long)v->settings.minuid);
		worse(v, EX_NOUSER);
		return;
	case MAILBOX_UNSURE:
		str_add_c(out, "local, but the account database did not answer: mail would wait");
		worse(v, EX_TEMPFAIL);
		return;
	}
}

static void say_remote(struct verify *v, const struct mailaddr *addr, struct str *out)
{
	struct bytes relay;
	uint16_t port;

	str_add_c(out, "by SMTP ");
	if (addr->kind == ADDR_LITERAL || !route_smtp(&v->settings, addr->domain, &relay, &port) || relay.len == 0) {
		str_add_c(out, addr->kind == ADDR_LITERAL ? "to the address " : "to the mail exchangers of ");
		str_add(out, addr->domain);
		return;
	}
	str_add_c(out, "to ");
	str_add(out, relay);
	str_addf(out, " port %u (smtproutes)", port == 0 ? (unsigned)v->settings.remoteport : port);
}

static bool say(void *context, const struct mailaddr *addr)
{
	struct verify *v = context;
	struct str out = STR_INIT(4096);
	struct route route;

	route_find(&v->settings, addr, &route);
	str_add(&out, addr->text);
	str_add_c(&out, ": ");
	if (route.channel == CHANNEL_LOCAL)
		say_local(v, addr, &route, &out);
	else
		say_remote(v, addr, &out);
	printf("%s\n", str_c(&out));
	str_free(&out);
	return true;
}

int verify_addresses(char **arguments)
{
	struct str faults = STR_INIT(8192);
	struct verify v = { .code = EX_OK };
	struct header_fault fault;

	if (!settings_load(&v.settings, path_etc, USED_TOOLS | USED_INJECT | USED_REMOTE, &faults)) {
		fprintf(stderr, "sendmail: %s\n", str_c(&faults));
		str_free(&faults);
		return EX_CONFIG;
	}
	for (; *arguments != NULL; arguments++) {
		struct bytes host = v.settings.defaulthost.len > 0 ? v.settings.defaulthost : v.settings.me;

		if (header_addresses(bytes_of(*arguments), host, say, &v, &fault))
			continue;
		printf("%s: %s\n", *arguments, fault.error == HEADER_ADDRESS ? mailaddr_error_text(fault.why) : header_error_text(fault.error));
		worse(&v, EX_DATAERR);
	}
	settings_free(&v.settings);
	str_free(&faults);
	return v.code;
}
