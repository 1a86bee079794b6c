/* grey - guard's room: greylisting. See grey.h. */
#include "grey.h"

#define REFRESH_PART 16u          /* a memory is made longer when so great a part of it is over, not with each mail: rows are written down */

/* Senders that are made for each message (VERP, bounce tags) would be new for ever: their digits count as one. */
static struct bytes without_digits(struct bytes sender, char out[ADDRESS_MAX + 1])
{
	size_t n = 0;
	for (size_t i = 0; i < sender.len && n < ADDRESS_MAX; i++) {
		char c = sender.at[i];
		bool digit = c >= '0' && c <= '9';
		if (!digit)
			out[n++] = c;
		else if (n == 0 || out[n - 1] != '#')
			out[n++] = '#';
	}
	out[n] = '\0';
	return (struct bytes){ out, n };
}

static void remember(const struct grey *g, struct row *row, wall_ms_t now)
{
	wall_ms_t life = g->settings->greylistlifetime * SECOND_MS;
	if (row->until > now && row->until - now > life - life / REFRESH_PART)
		return;
	row->until = now + life;
	table_changed(g->table, row);
}

static struct row *network_row(const struct grey *g, struct bytes network, wall_ms_t now)
{
	return table_find(g->table, keys_of(g->keys, LIMIT_NETWORK, ROW_NETWORK, 0, (const struct bytes[3]){ network }), now);
}

/* The network's row, if all that comes from there passes; else NULL. */
static struct row *network_passes(const struct grey *g, struct bytes network, wall_ms_t now)
{
	struct row *row = network_row(g, network, now);
	return row == NULL || g->settings->greylistallow == 0 || row->count < g->settings->greylistallow ? NULL : row;
}

static void note_pass(const struct grey *g, struct bytes network, wall_ms_t now)
{
	struct row *row = table_place(g->table, keys_of(g->keys, LIMIT_NETWORK, ROW_NETWORK, 0, (const struct bytes[3]){ network }), now);
	row->subject = LIMIT_NETWORK;
	row->what = ROW_NETWORK;
	row->rank = 1;
	row->count++;
	row->until = now + g->settings->greylistlifetime * SECOND_MS;
	keys_name(row, network);
	table_changed(g->table, row);
}

static uint64_t triplet_key(const struct grey *g, struct bytes network, struct bytes sender, struct bytes recipient)
{
	char text[ADDRESS_MAX + 1];
	return keys_of(g->keys, LIMIT_NETWORK, ROW_TRIPLET, 0, (const struct bytes[3]){ network, without_digits(sender, text), recipient });
}

static struct row *triplet_row(const struct grey *g, struct bytes network, struct bytes sender, struct bytes recipient, wall_ms_t now)
{
	struct row *row = table_place(g->table, triplet_key(g, network, sender, recipient), now);
	if (row->until != 0)
		return row;
	row->subject = LIMIT_NETWORK;
	row->what = ROW_TRIPLET;
	row->limit = now + g->settings->greylistdelay * SECOND_MS;
	row->until = now + (g->settings->greylistdelay + g->settings->greylistwindow) * SECOND_MS;
	keys_name(row, network);
	table_changed(g->table, row);
	return row;
}

static struct guard_answer come_again(const struct grey *g, wall_ms_t when, wall_ms_t now)
{
	bool log = bytes_equal(g->settings->greylist, LIT("log"));
	return (struct guard_answer){ .verdict = log ? GUARD_GREY_LOG : GUARD_GREY, .wait_s = (uint32_t)((when - now + SECOND_MS - 1) / SECOND_MS) };
}

struct guard_answer grey_check(const struct grey *g, const struct netaddr *client, struct bytes sender, struct bytes recipient, wall_ms_t now)
{
	struct guard_answer answer = { .verdict = GUARD_GO };
	char text[NETADDR_TEXT + 4];
	struct bytes network = keys_address(client, true, text);
	struct row *row = network_passes(g, network, now);
	if (row != NULL)
		remember(g, row, now);
	if (client->family == 0 || row != NULL)
		return answer;
	row = triplet_row(g, network, sender, recipient, now);
	if (row->limit > now)
		return come_again(g, row->limit, now);
	bool first = row->rank == 0;
	if (first) {
		row->rank = 1;
		row->until = now;   /* remember() begins its life */
	}
	remember(g, row, now);
	row->count++;
	if (first)
		note_pass(g, network, now);   /* last: it may push out the row at hand */
	return answer;
}

struct guard_answer grey_peek(const struct grey *g, const struct netaddr *client, struct bytes sender, struct bytes recipient, wall_ms_t now)
{
	char text[NETADDR_TEXT + 4];
	struct bytes network = keys_address(client, true, text);
	if (client->family == 0)
		return (struct guard_answer){ .verdict = GUARD_GO };
	const struct row *row = network_passes(g, network, now);
	if (row == NULL)
		row = table_find(g->table, triplet_key(g, network, sender, recipient), now);
	if (row == NULL)
		return come_again(g, now + g->settings->greylistdelay * SECOND_MS, now);
	struct guard_answer answer = row->limit > now ? come_again(g, row->limit, now) : (struct guard_answer){ .verdict = GUARD_GO };
	answer.what = row->what;
	answer.count = row->count + 1;   /* a pass is counted when it comes, and it has come once before */
	return answer;
}
