/* access - smtpd's room: relaying and recipients. See access.h. */
#include "access.h"

#include "common/mailbox.h"
#include "common/route.h"

#include <stdlib.h>

bool access_init(struct access *a, const struct settings *settings)
{
	*a = (struct access){ .settings = settings };
	if (settings->clients.count == 0)
		return true;
	a->blocks = calloc(settings->clients.count, sizeof *a->blocks);
	if (a->blocks == NULL)
		return false;
	/* A line that is no network was a fault when the settings were loaded; here it would match nobody. */
	for (size_t i = 0; i < settings->clients.count; i++)
		if (netblock_parse(settings->clients.at[i], &a->blocks[a->block_count]))
			a->block_count++;
	return true;
}

void access_free(struct access *a)
{
	free(a->blocks);
	*a = (struct access){ 0 };
}

bool access_client_may_relay(const struct access *a, const struct netaddr *client)
{
	if (client->family == 0)
		return false;
	for (size_t i = 0; i < a->block_count; i++)
		if (netblock_contains(&a->blocks[i], client))
			return true;
	return false;
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
