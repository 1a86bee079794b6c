/* submission - smtpd's room: senders and headers of authenticated sessions. See submission.h. */
#include "submission.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "common/keylist.h"

/* ---- whose address is it? */

/* joe+list and joe are one mailbox. */
static struct bytes without_extension(const struct settings *settings, struct bytes local)
{
	return settings->extensionchar.len == 1 ? bytes_slice(local, 0, bytes_find(local, settings->extensionchar.at[0])) : local;
}

static bool is_local_domain(const struct settings *settings, struct bytes domain)
{
	return keylist_find(&settings->locals, domain) < settings->locals.count;
}

static bool is_himself(const struct settings *settings, struct bytes login, const struct mailaddr *sender)
{
	struct bytes domain = login, local = bytes_cut(&domain, '@');
	bool same_domain = domain.at != NULL ? bytes_equal_nocase(domain, sender->domain) : is_local_domain(settings, sender->domain);
	return same_domain && (bytes_equal_nocase(local, sender->local) || bytes_equal_nocase(local, without_extension(settings, sender->local)));
}

/* "ADDRESS:login login ..." */
static bool line_names(const struct lines *list, struct bytes key, struct bytes login)
{
	size_t i = keylist_find(list, key);
	if (i == list->count)
		return false;
	for (struct bytes rest = keylist_value(list->at[i]); rest.len > 0;) {
		struct bytes word = bytes_cut(&rest, ' ');
		if (bytes_equal(word, LIT("*")) || bytes_equal(word, login))
			return true;
	}
	return false;
}

bool submission_owns(const struct settings *settings, struct bytes login, const struct mailaddr *sender)
{
	if (sender->kind == ADDR_NULL || is_himself(settings, login, sender))
		return true;
	if (settings->senderlogins.count == 0)
		return false;
	struct bytes at_domain = bytes_slice(sender->text, sender->local.len, sender->text.len);
	return line_names(&settings->senderlogins, sender->text, login) || line_names(&settings->senderlogins, at_domain, login);
}

/* ---- what his program left out */

static bool make_id(struct session *s)
{
	uint64_t random[2];
	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
		return false;
	snprintf(s->message.message_id, sizeof s->message.message_id, "<%016llx%016llx@%.*s>", (unsigned long long)random[0], (unsigned long long)random[1],
		(int)(s->settings->me.len < 200 ? s->settings->me.len : 200), s->settings->me.at);
	return true;
}

bool submission_headers(struct session *s, struct str *out)
{
	if (!s->message.has_date) {
		str_add_c(out, "Date: ");
		clock_rfc5322(clock_wall_ms(), out);
		str_add_c(out, "\r\n");
	}
	if (!s->message.has_id && make_id(s)) {
		str_add_c(out, "Message-ID: ");
		str_add_c(out, s->message.message_id);
		str_add_c(out, "\r\n");
	}
	return !out->failed;
}
