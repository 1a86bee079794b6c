/*
 * control - writes tappal-control(5) from common/settings.def, at build time, so that the page cannot go stale. Not installed.
 *   runs as   whoever builds      writes  mdoc(7) on stdout      exit    0 | 111
 */
#include <stdio.h>
#include <string.h>

#include "common/exits.h"
#include "common/settings.h"

static const struct { unsigned bit; const char *name; } users[] = {
	{ USED_SMTPD, "smtpd" }, { USED_QUEUED, "queued" }, { USED_SPAWN, "spawn" }, { USED_BOUNCE, "bounce" }, { USED_REMOTE, "remote" }, { USED_RESOLVER, "resolver" },
	{ USED_INJECT, "inject, sendmail" }, { USED_TOOLS, "tappal" }, { USED_AUTH, "auth" }, { USED_TLSD, "tlsd" }, { USED_GUARD, "guard" }, { USED_FILTERD, "filterd" }, { USED_CALLOUT, "callout" },
};

static const char *type_words(enum setting_type type)
{
	switch (type) {
	case SETTING_TYPE_NUM: return "a number";
	case SETTING_TYPE_SECONDS: return "a time: seconds, or with s m h d w behind it";
	case SETTING_TYPE_SIZE: return "a size: octets, or with K M G behind it";
	case SETTING_TYPE_FLAG: return "yes or no; an empty file is yes";
	case SETTING_TYPE_DOMAIN: return "a host name";
	case SETTING_TYPE_LINE: return "one line";
	case SETTING_TYPE_WORD: return "a word";
	case SETTING_TYPE_LIST: return "a list, one entry a line";
	}
	return "";
}

/* Text for mdoc: a backslash is written \e, and what could be a request or a macro at the start of a line gets a zero-width space. */
static void put_text(const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", stdout);
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '\n')
			fputs(", ", stdout);
		else
			putchar(*text);
	}
}

static void put_users(unsigned used_by)
{
	const char *between = "";

	if (used_by == USED_ALL) {
		fputs("all programs", stdout);
		return;
	}
	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		if (!(used_by & users[i].bit))
			continue;
		printf("%s%s", between, users[i].name);
		between = ", ";
	}
}

static void put_setting(const struct setting_row *row)
{
	printf(".It Ic %s\n", row->name);
	put_text(row->help);
	printf(".\n.br\nValue: %s", type_words(row->type));
	if (row->max > 0)
		printf(", %llu to %llu", (unsigned long long)row->min, (unsigned long long)row->max);
	/* A default that depends on another setting is in the text. */
	if (row->default_text[0] != '\0' || strstr(row->help, "default: ") == NULL) {
		fputs(".\n.br\nDefault: ", stdout);
		put_text(row->default_text[0] != '\0' ? row->default_text : "none");
	}
	fputs(".\n.br\nUsed by: ", stdout);
	put_users(row->used_by);
	fputs(".\n", stdout);
}

int main(void)
{
	fputs(".Dd November 21, 2026\n.Dt TAPPAL-CONTROL 5\n.Os\n.Sh NAME\n.Nm tappal-control\n.Nd the settings of tappal\n.Sh DESCRIPTION\n"
		"Each setting is a file of its own in\n.Pa /etc/tappal ,\nwith the name and, where qmail has one, the meaning of qmail's.\n"
		"Defaults are tappal's own, and two differ in kind: without\n.Ic rcpthosts\nnothing is an open relay, and without\n.Ic doublebounceto\n"
		"a bounce that cannot be delivered is dropped.\n"
		"A file that is missing has its default.\nIn lists, empty lines and lines that begin with\n.Sq #\ndo not count.\n"
		"A file of an unknown name is a slip that\n.Ql tappal config check\nrefuses with the nearest name, and that\n.Xr tappal-queued 8\nwarns of in the log;\n"
		"names that begin with a dot, and directories, do not count.\nA line that ends with a carriage return, or holds another control character, is a fault.\n.Pp\n"
		"A program reads the files it uses when it starts, and no others.\nDaemons read them again at SIGHUP\n.Pq Ql tappal reload ;\n"
		"a wrong value then leaves the old ones in force and is logged, and at a start it ends the program with file, line and what to do.\n"
		"Workers that deliver have those of their start; after a reload each ends with the delivery it has.\n"
		".Cm spawn local\nalso reads them again by itself before it calls a mailbox unknown, when they have changed.\n"
		".Ql tappal config\nshows, checks and changes settings.\n.Bl -tag -width Ds\n", stdout);
	for (size_t i = 0; i < setting_count; i++)
		put_setting(&setting_table[i]);
	fputs(".El\n.Sh FILES\n.Bl -tag -width /etc/tappal -compact\n.It Pa /etc/tappal\nthe control files\n.El\n"
		".Sh EXAMPLES\n.Dl echo mx.example.org > /etc/tappal/me\n.Dl tappal config set locals example.org lists.example.org\n.Dl tappal config check\n"
		".Sh SEE ALSO\n.Xr tappal 8 ,\n.Xr tappal-queued 8 ,\n.Xr tappal-smtpd 8\n", stdout);
	return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_OK : EXIT_SYSTEM;
}
