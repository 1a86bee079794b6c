/*
 * select - see select.h. Room: queue, the operator's own uid, the index read-only.
 */
#include "select.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/domain.h"
#include "common/mailaddr.h"

#define TURN_ROWS 20000u          /* rows looked at in one turn */
#define STATE_ROWS 200u           /* recipients looked at to tell a state, when no filter wants all of them */

const char *message_state_name(enum message_state state)
{
	static const char *const name[] = { "active", "deferred", "held", "failed" };

	return state <= STATE_FAILED ? name[state] : "?";
}

const char *message_state_postfix(enum message_state state)
{
	return state == STATE_HELD ? "hold" : state == STATE_ACTIVE ? "active" : "deferred";
}

/* ---- filters ---- */

void selection_init(struct selection *sel)
{
	*sel = (struct selection){ .state = -1 };
}

void selection_free(struct selection *sel)
{
	free(sel->ids);
	selection_init(sel);
}

bool selection_given(const struct selection *sel)
{
	return sel->all || sel->id_count > 0 || sel->from.at != NULL || sel->to.at != NULL || sel->domain.at != NULL || sel->reason.at != NULL || sel->older_ms > 0 ||
		sel->newer_ms > 0 || sel->state >= 0;
}

bool selection_add_id(struct selection *sel, struct id_range range)
{
	struct id_range *ids = array_room(sel->ids, sel->id_count, &sel->id_room, sizeof *ids);

	if (ids == NULL)
		return false;
	sel->ids = ids;
	sel->ids[sel->id_count++] = range;
	return true;
}

bool select_span(struct bytes text, uint64_t *ms_r)
{
	static const struct { char unit; uint64_t seconds; } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 } };
	uint64_t number, unit = 1;

	for (size_t i = 0; text.len > 0 && i < sizeof(units) / sizeof(units[0]); i++) {
		if (text.at[text.len - 1] == units[i].unit) {
			unit = units[i].seconds;
			text.len--;
			break;
		}
	}
	if (!bytes_to_u64(text, UINT32_MAX, &number) || number == 0)
		return false;
	*ms_r = number * unit * SECOND_MS;
	return true;
}

static bool read_state(const char *value, int *state_r)
{
	static const struct { const char *name; enum message_state state; } names[] = {
		{ "active", STATE_ACTIVE }, { "new", STATE_ACTIVE }, { "deferred", STATE_DEFERRED }, { "held", STATE_HELD }, { "hold", STATE_HELD }, { "failed", STATE_FAILED },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i].name) == 0) {
			*state_r = (int)names[i].state;
			return true;
		}
	}
	return false;
}

bool selection_option(struct selection *sel, const char *option, const char *value, struct str *why)
{
	struct bytes text = bytes_of(value);

	if (strcmp(option, "from") == 0)
		sel->from = text;
	else if (strcmp(option, "to") == 0)
		sel->to = text;
	else if (strcmp(option, "domain") == 0)
		sel->domain = text;
	else if (strcmp(option, "reason") == 0)
		sel->reason = text;
	else if (strcmp(option, "older") == 0 && !select_span(text, &sel->older_ms))
		return str_addf(why, "--older takes an age like 90s, 15m, 2h, 3d or 1w"), false;
	else if (strcmp(option, "newer") == 0 && !select_span(text, &sel->newer_ms))
		return str_addf(why, "--newer takes an age like 90s, 15m, 2h, 3d or 1w"), false;
	else if (strcmp(option, "state") == 0 && !read_state(value, &sel->state))
		return str_addf(why, "--state takes active, deferred, held or failed"), false;
	else if (strcmp(option, "limit") == 0 && !bytes_to_u64(text, UINT64_MAX, &sel->limit))
		return str_addf(why, "--limit takes a number"), false;
	return true;
}

/* ---- matching ---- */

static bool same_letter(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* The last "*" seen is the only one to come back to: linear in its two lengths' product, without recursion. */
bool select_glob(struct bytes pattern, struct bytes text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, mark = 0;

	while (t < text.len) {
		if (p < pattern.len && pattern.at[p] == '*') {
			star = p++;
			mark = t;
		} else if (p < pattern.len && (pattern.at[p] == '?' || same_letter(pattern.at[p], text.at[t]))) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++mark;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.at[p] == '*')
		p++;
	return p == pattern.len;
}

static bool contains(struct bytes text, struct bytes part)
{
	for (size_t i = 0; i + part.len <= text.len; i++)
		if (bytes_starts_nocase(bytes_slice(text, i, text.len), part))
			return true;
	return false;
}

bool select_address(struct bytes pattern, struct bytes address)
{
	if (pattern.len == 0 || bytes_equal(pattern, LIT("<>")))
		return address.len == 0;
	if (pattern.at[0] == '@')
		return bytes_ends_nocase(address, pattern);
	return select_glob(pattern, address);
}

static bool select_domain(struct bytes pattern, const struct row_rcpt *row)
{
	size_t at = bytes_find_last(row->address, '@');
	struct bytes domain = bytes_slice(row->address, at + 1, row->address.len);

	return domain_matches(domain, pattern) || bytes_equal_nocase(bytes_slice(row->destination, 2, row->destination.len), pattern);
}

bool select_message(const struct selection *sel, const struct row_message *row)
{
	if (sel->from.at != NULL && !select_address(sel->from, row->sender))
		return false;
	return true;
}

bool select_rcpt(const struct selection *sel, const struct row_message *message, const struct row_rcpt *row)
{
	if (row->state != RCPT_WAITING && !rcpt_reports(row))
		return false;
	if (sel->to.at != NULL && !select_address(sel->to, row->address))
		return false;
	if (sel->domain.at != NULL && !select_domain(sel->domain, row))
		return false;
	return sel->reason.at == NULL || contains(row->text, sel->reason) || (message->held_ms != 0 && contains(message->held_reason, sel->reason));
}

/* ---- the walk ---- */

void walk_begin(struct walk *w, const struct selection *sel, struct index *ix, wall_ms_t now)
{
	*w = (struct walk){ .sel = sel, .ix = ix, .now = now };
}

/* The range of ids that ages leave over. */
static struct id_range by_age(const struct walk *w)
{
	struct id_range r = { 1, MSGID_MAX };

	if (w->sel->older_ms > 0)
		r.last = w->sel->older_ms < w->now ? msgid_next(0, w->now - w->sel->older_ms) : 0;
	if (w->sel->newer_ms > 0 && w->sel->newer_ms < w->now)
		r.first = msgid_next(0, w->now - w->sel->newer_ms);
	return r;
}

/* Go to the next range of ids with something in it. */
static bool enter_range(struct walk *w)
{
	struct id_range age = by_age(w), all = { 1, MSGID_MAX };
	const struct id_range *ids = w->sel->id_count > 0 ? w->sel->ids : &all;
	size_t count = w->sel->id_count > 0 ? w->sel->id_count : 1;

	while (!w->inside && w->range < count) {
		struct id_range r = ids[w->range++];

		w->next = r.first > age.first ? r.first : age.first;
		w->last = r.last < age.last ? r.last : age.last;
		w->inside = w->next <= w->last;
	}
	return w->inside;
}

static bool has_rcpt_filter(const struct selection *sel)
{
	return sel->to.at != NULL || sel->domain.at != NULL || sel->reason.at != NULL;
}

struct sight { bool matched, tried, waiting; };

static enum index_result look_at_rcpts(const struct walk *w, struct found *f, struct sight *s, size_t *rows)
{
	bool all = has_rcpt_filter(w->sel);
	struct row_rcpt row;
	uint32_t n = 0;

	for (uint32_t from = 0; from < f->row->rcpt_count; from = n + 1) {
		enum index_result r = index_next_rcpt(w->ix, f->id, from, &n, &row);

		if (r != INDEX_OK)
			return r == INDEX_FATAL ? r : INDEX_OK;
		++*rows;
		s->waiting = s->waiting || row.state == RCPT_WAITING;
		s->tried = s->tried || (row.state == RCPT_WAITING && row.attempts > 0);
		if (!s->matched && select_rcpt(w->sel, f->row, &row)) {
			s->matched = true;
			f->rcpt = row;
			f->rcpt_index = n;
		}
		if (s->matched && (s->tried || (!all && from >= STATE_ROWS)))
			break;
	}
	return INDEX_OK;
}

static enum message_state state_of(const struct row_message *row, const struct sight *s)
{
	if (row->held_ms != 0)
		return STATE_HELD;
	if (!s->waiting)
		return STATE_FAILED;
	return s->tried ? STATE_DEFERRED : STATE_ACTIVE;
}

/* What is left of a turn. */
struct turn { size_t hits, rows; select_fn *visit; void *context; };

static enum index_result examine(struct walk *w, msgid_t id, const struct row_message *row, struct turn *t)
{
	struct found f = { .id = id, .row = row, .ix = w->ix };
	struct sight s = { .matched = false };
	enum index_result r;

	if (!select_message(w->sel, row))
		return INDEX_OK;
	r = look_at_rcpts(w, &f, &s, &t->rows);
	if (r != INDEX_OK || !s.matched)
		return r;
	f.state = state_of(row, &s);
	if (w->sel->state >= 0 && w->sel->state != (int)f.state)
		return INDEX_OK;
	w->count++;
	t->hits = t->visit(t->context, &f) ? t->hits - 1 : 0;
	return INDEX_OK;
}

/* Inside one read transaction. */
static enum walk_result walk_rows(struct walk *w, struct turn *t)
{
	while (t->hits > 0 && t->rows < TURN_ROWS) {
		struct row_message row;
		enum index_result r;
		msgid_t id;

		if ((w->sel->limit > 0 && w->count >= w->sel->limit) || !enter_range(w))
			return WALK_END;
		r = index_next_message(w->ix, w->next, &id, &row);
		t->rows++;
		if (r == INDEX_NONE || (r == INDEX_OK && id > w->last)) {
			w->inside = false;
			continue;
		}
		if (r == INDEX_OK)
			r = examine(w, id, &row, t);
		if (r == INDEX_FATAL)
			return WALK_FATAL;
		w->next = id + 1;
		w->inside = w->next <= w->last;
	}
	return WALK_MORE;
}

enum walk_result walk_turn(struct walk *w, size_t most, select_fn *visit, void *context)
{
	struct turn t = { .hits = most, .visit = visit, .context = context };
	enum walk_result result;

	if (!index_read_begin(w->ix))
		return WALK_FATAL;
	result = walk_rows(w, &t);
	index_read_end(w->ix);
	return result;
}

/* ---- prefixes ---- */

enum index_result select_resolve(struct index *ix, struct id_range range, bool finished, unsigned *count_r, msgid_t ids_r[2])
{
	msgid_t from = range.first, id = 0;

	*count_r = 0;
	while (*count_r < 2 && from <= range.last) {
		struct row_message message;
		struct row_finished ended;
		enum index_result r = finished ? index_next_finished(ix, from, &id, &ended) : index_next_message(ix, from, &id, &message);

		if (r == INDEX_FATAL)
			return r;
		if (r == INDEX_NONE || id > range.last)
			return INDEX_OK;
		ids_r[(*count_r)++] = id;
		from = id + 1;
	}
	return INDEX_OK;
}
