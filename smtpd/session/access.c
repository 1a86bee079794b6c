/* access - smtpd's room: relaying and recipients. See access.h. */
#include "access.h"

#include "common/mailbox.h"
#include "common/route.h"

#include <stdlib.h>

static bool blocks_init(struct netblocks *blocks, const struct lines *lines)
{
	if (lines->count == 0)
		return true;
	blocks->at = calloc(lines->count, sizeof *blocks->at);
	if (blocks->at == NULL)
		return false;
	/* A line that is no network was a fault when the settings were loaded; here it would match nobody. */
	for (size_t i = 0; i < lines->count; i++)
		if (netblock_parse(lines->at[i], &blocks->at[blocks->count]))
			blocks->count++;
	return true;
}

bool access_init(struct access *a, const struct settings *settings)
{
	*a = (struct access){ .settings = settings };
	guard_needs_of(settings, &a->guard);
	if (blocks_init(&a->clients, &settings->clients) && blocks_init(&a->plain, &settings->authplaintext) && blocks_init(&a->proxies, &settings->proxyfrom)
		&& blocks_init(&a->xclients, &settings->xclientfrom) && blocks_init(&a->xforwards, &settings->xforwardfrom)
		&& blocks_init(&a->etrns, &settings->etrnfrom) && blocks_init(&a->dsns, &settings->dsnfrom))
		return true;
	access_free(a);
	return false;
}

void access_free(struct access *a)
{
	free(a->clients.at);
	free(a->plain.at);
	free(a->proxies.at);
	free(a->xclients.at);
	free(a->xforwards.at);
	free(a->etrns.at);
	free(a->dsns.at);
	*a = (struct access){ 0 };
}

bool access_in(const struct netblocks *blocks, const struct netaddr *client)
{
	for (size_t i = 0; client->family != 0 && i < blocks->count; i++)
		if (netblock_contains(&blocks->at[i], client))
			return true;
	return false;
}

bool access_client_may_relay(const struct access *a, const struct netaddr *client)
{
	return access_in(&a->clients, client);
}

bool access_may_auth_plain(const struct access *a, const struct netaddr *client)
{
	return access_in(&a->plain, client);
}

enum access_result access_check(const struct access *a, bool may_relay, const struct mailaddr *rcpt)
{
	struct route route;
	struct mailbox box;
	if (!may_relay && !route_is_ours(a->settings, rcpt))
		return ACCESS_RELAY;
	route_find(a->settings, rcpt, &route);
	if (route.channel != CHANNEL_LOCAL)
		return ACCESS_OK;
	switch (mailbox_find(a->settings, rcpt, &route, &box)) {
	case MAILBOX_FOUND:
		return ACCESS_OK;
	case MAILBOX_NONE:
		return ACCESS_UNKNOWN;
	default:
		return ACCESS_UNSURE;
	}
}
