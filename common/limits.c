/* limits - common room, for smtpd, guard and the settings. See limits.h. */
#include "limits.h"

#include <string.h>

#include "domain.h"

#define LOGIN_WIDTH 2u
#define WINDOW_MAX 31536000u      /* a year */

const char *const limit_subject_name[LIMIT_SUBJECTS] = { "address", "network", "login", "domain" };
const char *const limit_what_name[LIMIT_WHATS] = { "connections", "messages", "recipients", "errors", "octets" };

/* Connections come before a login is known, errors and octets are nobody's domain. */
static const bool legal[LIMIT_SUBJECTS][LIMIT_WHATS] = {
	[LIMIT_ADDRESS] = { true, true, true, true, true },
	[LIMIT_NETWORK] = { true, true, true, true, true },
	[LIMIT_LOGIN] = { false, true, true, true, true },
	[LIMIT_DOMAIN] = { false, true, true, false, false },
};

static struct bytes next_word(struct bytes *rest)
{
	struct bytes text = bytes_trim(*rest);
	size_t n = 0;
	while (n < text.len && text.at[n] != ' ' && text.at[n] != '\t')
		n++;
	*rest = bytes_slice(text, n, text.len);
	return bytes_slice(text, 0, n);
}

static size_t find_name(const char *const *names, size_t count, struct bytes word)
{
	size_t i = 0;
	while (i < count && !bytes_equal(word, bytes_of(names[i])))
		i++;
	return i;
}

struct unit { char letter; uint64_t size; };

static bool number_with_unit(struct bytes text, const struct unit *units, bool must, uint64_t max, uint64_t *value_r)
{
	uint64_t unit = 1, value;
	bool found = false;
	for (; text.len > 0 && units->letter != 0 && !found; units++)
		if (text.at[text.len - 1] == units->letter) {
			unit = units->size;
			found = true;
		}
	if (found)
		text.len--;
	if ((must && !found) || !bytes_to_u64(text, max / unit, &value))
		return false;
	*value_r = value * unit;
	return true;
}

static bool parse_amount(struct bytes word, struct limit *limit)
{
	static const struct unit sizes[] = { { 'K', 1u << 10 }, { 'M', 1u << 20 }, { 'G', 1u << 30 }, { 0, 0 } };
	static const struct unit times[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 }, { 0, 0 } };
	struct bytes window = word, count = bytes_cut(&window, '/');
	uint64_t seconds = 0;
	limit->none = bytes_equal(word, LIT("none"));
	if (limit->none)
		return true;
	if (!number_with_unit(count, sizes, false, UINT64_MAX / 2, &limit->count) || limit->count == 0)
		return false;
	if (window.at == NULL)
		return limit->what == LIMIT_CONNECTIONS;
	if (!number_with_unit(window, times, true, WINDOW_MAX, &seconds) || seconds == 0)
		return false;
	limit->window_s = (uint32_t)seconds;
	return true;
}

static bool is_domain_pattern(struct bytes b)
{
	return domain_valid(b.len > 0 && b.at[0] == '.' ? bytes_slice(b, 1, b.len) : b, true);
}

static bool parse_who(struct bytes word, struct limit *limit)
{
	limit->who = word;
	switch (limit->subject) {
	case LIMIT_ADDRESS:
	case LIMIT_NETWORK:
		return netblock_parse(word, &limit->block);
	case LIMIT_DOMAIN:
		return is_domain_pattern(word);
	default:
		return true;
	}
}

bool limit_parse(struct bytes line, struct limit *limit_r, const char **why_r)
{
	struct limit limit = { 0 };
	struct bytes rest = line;
	size_t subject = find_name(limit_subject_name, LIMIT_SUBJECTS, next_word(&rest));
	size_t what = find_name(limit_what_name, LIMIT_WHATS, next_word(&rest));
	*why_r = "begin with address, network, login or domain, and connections, messages, recipients, errors or octets";
	if (subject == LIMIT_SUBJECTS || what == LIMIT_WHATS)
		return false;
	*why_r = "connections are counted by address and network, errors and octets by login, too, and a domain's messages and recipients alone";
	if (!legal[subject][what])
		return false;
	limit.subject = (enum limit_subject)subject;
	limit.what = (enum limit_what)what;
	*why_r = "write how many in what time behind it, like 100/1h, or none; connections alone do without a time: so many at once";
	if (!parse_amount(next_word(&rest), &limit))
		return false;
	struct bytes who = next_word(&rest);
	*why_r = "at its end stands nothing, or for whom it is: a network like 192.0.2.0/24, a login, or a domain";
	if ((who.len > 0 && !parse_who(who, &limit)) || bytes_trim(rest).len > 0)
		return false;
	*limit_r = limit;
	return true;
}

unsigned limit_fits(const struct limit *limit, struct bytes name, const struct netaddr *client)
{
	if (limit->who.len == 0)
		return 1;
	switch (limit->subject) {
	case LIMIT_ADDRESS:
	case LIMIT_NETWORK:
		return netblock_contains(&limit->block, client) ? 2 + limit->block.bits : 0;
	case LIMIT_DOMAIN:
		return domain_matches(name, limit->who) ? 2 + (unsigned)limit->who.len * 2 + (limit->who.at[0] != '.') : 0;
	default:
		return bytes_equal(name, limit->who) ? LOGIN_WIDTH : 0;
	}
}

struct netaddr limits_network(const struct netaddr *client)
{
	struct netaddr network = *client;
	size_t kept = client->family == AF_INET ? 3 : client->family == AF_INET6 ? 8 : 0;
	memset(network.octets + kept, 0, sizeof network.octets - kept);
	network.port = 0;
	return network;
}

bool clientlist_line_valid(struct bytes line)
{
	struct netblock block;
	uint64_t number;
	size_t dot = bytes_find_last(line, '.');
	struct bytes last = dot == line.len ? line : bytes_slice(line, dot + 1, line.len);   /* digits alone: a slip in an address */
	return netblock_parse(line, &block) || (is_domain_pattern(line) && !bytes_to_u64(last, UINT64_MAX, &number));
}

bool clientlist_has(const struct lines *list, const struct netaddr *client, struct bytes name)
{
	struct netblock block;
	for (size_t i = 0; i < list->count; i++) {
		if (netblock_parse(list->at[i], &block) ? client->family != 0 && netblock_contains(&block, client) : name.len > 0 && domain_matches(name, list->at[i]))
			return true;
	}
	return false;
}
