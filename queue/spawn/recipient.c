/* recipient - room: queue (spawn local). See recipient.h. */
#include "recipient.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#define NO_HOME "/nonexistent"     /* Debian policy 9.2.3: accounts that never have one */

/* The first recipient stands for all: a local destination is one routed address, so they differ in spelling at most. */
static bool first_address(const struct flight *f, struct job_rcpt *rcpt_r) {
	struct record record;
	struct bytes orders = str_bytes(&f->orders);
	size_t used;
	if (record_take(orders, &record, &used) != RECORD_OK)
		return false;
	return record_take(bytes_slice(orders, used, orders.len), &record, &used) == RECORD_OK && job_rcpt_decode(record.payload, rcpt_r);
}

static bool has_lost_home(const struct passwd *pw, uint64_t minuid) {
	struct stat st;
	if (pw->pw_uid == 0 || pw->pw_uid < minuid || pw->pw_dir[0] != '/' || strcmp(pw->pw_dir, NO_HOME) == 0)
		return false;
	return lstat(pw->pw_dir, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* The whole local part, then ever shorter ones cut at the extension character, as common/mailbox.c looks. */
static bool user_has_lost_home(const struct settings *s, const char *local) {
	char name[DESTINATION_MAX + 1];
	size_t len = strlen(local);
	memcpy(name, local, len + 1);
	while (len > 0) {
		name[len] = 0;
		struct passwd *pw = getpwnam(name);
		if (pw)
			return has_lost_home(pw, s->minuid);
		size_t cut = s->extensionchar.len > 0 ? bytes_find_last(bytes_of(name), s->extensionchar.at[0]) : len;
		len = cut < len ? cut : 0;
	}
	return false;
}

enum mailbox_result recipient_find(const struct settings *s, const struct flight *f, struct mailbox *box_r, const char **text_r) {
	struct job_rcpt rcpt;
	struct mailaddr addr;
	struct route route;
	*text_r = "no mailbox here by that name";
	if (!first_address(f, &rcpt) || mailaddr_parse(rcpt.address, &addr) != ADDR_OK || addr.kind == ADDR_NULL)
		return MAILBOX_NONE;
	route_find(s, &addr, &route);
	if (route.channel != CHANNEL_LOCAL) {
		*text_r = "this domain is no longer local";     /* queued has other settings than spawn: it decides again */
		return MAILBOX_UNSURE;
	}
	enum mailbox_result result = mailbox_find(s, &addr, &route, box_r);
	if (result == MAILBOX_UNSURE)
		*text_r = "the mailbox could not be looked up";
	if (result != MAILBOX_NONE || !user_has_lost_home(s, route.local_part))
		return result;
	*text_r = "the user's home directory is missing";
	return MAILBOX_UNSURE;
}
