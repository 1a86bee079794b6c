/* milterline - a line of `milters`. See milterline.h. Room: common. */
#include "milterline.h"

#include "clock.h"

#define PATH_LONGEST 107u    /* sockaddr_un */
#define NAME_LONGEST 40u
#define SECONDS_LONGEST 3600u

static bool parse_place(struct bytes place, struct milter_line *m)
{
	struct bytes rest = place, kind = bytes_cut(&rest, ':');
	m->name = place;
	if (bytes_equal(kind, LIT("unix"))) {
		m->path = rest;
		return rest.len > 1 && rest.len <= PATH_LONGEST && rest.at[0] == '/';
	}
	if (!bytes_equal(kind, LIT("inet")))
		return false;
	if (bytes_starts_nocase(rest, LIT("localhost:"))) {
		uint64_t port;
		bool good = bytes_to_u64(bytes_slice(rest, sizeof "localhost:" - 1, rest.len), 65535, &port) && port > 0 && netaddr_parse(LIT("127.0.0.1"), &m->addr);
		m->addr.port = good ? (uint16_t)port : 0;
		return good;
	}
	return rest.len > 0 && rest.at[0] != ':' && bytes_find(rest, ':') < rest.len && netaddr_parse_listen(rest, &m->addr) && m->addr.port > 0;
}

static bool parse_default(struct bytes value, enum milter_default *default_r)
{
	static const struct { struct bytes word; enum milter_default meaning; } words[] = {
		{ LIT("tempfail"), MILTER_TEMPFAIL }, { LIT("accept"), MILTER_ACCEPT }, { LIT("reject"), MILTER_REJECT },
	};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (bytes_equal(value, words[i].word)) {
			*default_r = words[i].meaning;
			return true;
		}
	return false;
}

static bool parse_seconds(struct bytes value, uint64_t *ms_r)
{
	uint64_t seconds;
	if (!bytes_to_u64(value, SECONDS_LONGEST, &seconds) || seconds == 0)
		return false;
	*ms_r = seconds * SECOND_MS;
	return true;
}

static bool parse_name(struct bytes value, struct bytes *name_r)
{
	*name_r = value;
	for (size_t i = 0; i < value.len; i++)
		if (value.at[i] <= ' ' || value.at[i] >= 127)
			return false;
	return value.len > 0 && value.len <= NAME_LONGEST;
}

static bool parse_option(struct bytes word, struct milter_line *m)
{
	struct bytes value = word, key = bytes_cut(&value, '=');
	if (bytes_equal(key, LIT("name")))
		return parse_name(value, &m->name);
	if (bytes_equal(key, LIT("default")))
		return parse_default(value, &m->when_away);
	if (bytes_equal(key, LIT("connect")))
		return parse_seconds(value, &m->connect_ms);
	if (bytes_equal(key, LIT("timeout")))
		return parse_seconds(value, &m->command_ms);
	return bytes_equal(key, LIT("content")) && parse_seconds(value, &m->content_ms);
}

bool milter_line_parse(struct bytes line, struct milter_line *m)
{
	struct bytes rest = line, place = bytes_cut(&rest, ' ');
	*m = (struct milter_line){ .connect_ms = 30 * SECOND_MS, .command_ms = 30 * SECOND_MS, .content_ms = 300 * SECOND_MS };
	if (!parse_place(place, m))
		return false;
	while (rest.len > 0) {
		struct bytes word = bytes_cut(&rest, ' ');
		if (word.len > 0 && !parse_option(word, m))
			return false;
	}
	return true;
}
