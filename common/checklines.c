/* checklines - lines of dnslists and checkexempt. Room: common. See checklines.h. */
#include "checklines.h"

#include <string.h>

#include "domain.h"

/* The next word of *rest; empty at its end. */
static struct bytes word(struct bytes *rest)
{
	struct bytes w = { 0 };
	while (w.len == 0 && rest->len > 0) {
		*rest = bytes_trim(*rest);
		size_t end = 0;
		while (end < rest->len && rest->at[end] != ' ' && rest->at[end] != '\t')
			end++;
		w = bytes_slice(*rest, 0, end);
		*rest = bytes_slice(*rest, end, rest->len);
	}
	return w;
}

/* ---- dnslists */

/* "2", "2-11" or "*" */
static bool parse_octet(struct bytes text, uint8_t *low_r, uint8_t *high_r)
{
	struct bytes to = text, from = bytes_cut(&to, '-');
	uint64_t low = 0, high = 255;
	if (!bytes_equal(text, LIT("*")) && (!bytes_to_u64(from, 255, &low) || !bytes_to_u64(to.at != NULL ? to : from, 255, &high) || high < low))
		return false;
	*low_r = (uint8_t)low;
	*high_r = (uint8_t)high;
	return true;
}

static bool parse_pattern(struct bytes text, struct dnslist *list)
{
	for (size_t i = 0; i < 4; i++) {
		struct bytes octet = bytes_cut(&text, '.');
		if (!parse_octet(octet, &list->low[i], &list->high[i]) || (text.at != NULL) != (i < 3))
			return false;
	}
	return list->low[0] == 127 && list->high[0] == 127;
}

static bool parse_weight(struct bytes text, int *weight_r)
{
	bool minus = text.len > 0 && text.at[0] == '-';
	uint64_t number;
	if (!bytes_to_u64(bytes_slice(text, minus, text.len), LIST_WEIGHT_MAX, &number) || number == 0)
		return false;
	*weight_r = minus ? -(int)number : (int)number;
	return true;
}

static unsigned parse_of(struct bytes text)
{
	static const struct { const char *name; unsigned of; } words[] = {
		{ "client", LIST_CLIENT }, { "helo", LIST_HELO }, { "reverse", LIST_REVERSE }, { "sender", LIST_SENDER },
	};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (bytes_equal(text, bytes_of(words[i].name)))
			return words[i].of;
	return 0;
}

bool dnslist_parse(struct bytes line, struct dnslist *list_r)
{
	*list_r = (struct dnslist){ .low = { 127 }, .high = { 127, 255, 255, 255 } };
	list_r->zone = word(&line);
	struct bytes w = word(&line);
	if (!domain_valid(list_r->zone, false))
		return false;
	if (w.len > 0 && w.at[0] == '=') {
		if (!parse_pattern(bytes_slice(w, 1, w.len), list_r))
			return false;
		w = word(&line);
	}
	if (!parse_weight(w, &list_r->weight))
		return false;
	while ((w = word(&line)).len > 0) {
		unsigned of = parse_of(w);
		if (of == 0)
			return false;
		list_r->of |= of;
	}
	if (list_r->of == 0)
		list_r->of = LIST_CLIENT;
	return true;
}

enum dnslist_meaning dnslist_meaning(const struct dnslist *list, const struct netaddr *answer)
{
	if (answer->family != AF_INET || answer->octets[0] != 127)
		return LIST_DEAD;
	if (answer->octets[1] == 255 && answer->octets[2] == 255)
		return LIST_REFUSES;
	for (size_t i = 0; i < 4; i++)
		if (answer->octets[i] < list->low[i] || answer->octets[i] > list->high[i])
			return LISTED_OTHERWISE;
	return LISTED;
}

/* ---- checkexempt */

bool exemption_parse(struct bytes line, struct exemption *e_r)
{
	*e_r = (struct exemption){ .domain = word(&line) };
	e_r->checks = bytes_trim(line);
	e_r->of_network = netblock_parse(e_r->domain, &e_r->network);
	bool below = e_r->domain.len > 0 && e_r->domain.at[0] == '.';
	return e_r->of_network || domain_valid(bytes_slice(e_r->domain, below, e_r->domain.len), true);
}

bool exemption_is_of(const struct exemption *e, struct bytes check)
{
	struct bytes rest = e->checks, w;
	while ((w = word(&rest)).len > 0)
		if (bytes_equal(w, check))
			return true;
	return e->checks.len == 0;
}
