/*
 * settings_table - the table of all settings and what is looked up in it. Room: common.
 */
#include "settings.h"

#include <string.h>

#define NAME_OCTETS 64

#define SETTING(name, TYPE, dflt, min, max, used_by, help) \
	{ #name, SETTING_TYPE_##TYPE, dflt, min, max, used_by, help, offsetof(struct settings, name) },
const struct setting_row setting_table[] = {
#include "settings.def"
};
#undef SETTING
const size_t setting_count = sizeof setting_table / sizeof setting_table[0];

const struct setting_row *setting_find(struct bytes name)
{
	for (size_t i = 0; i < setting_count; i++)
		if (bytes_equal(name, bytes_of(setting_table[i].name)))
			return &setting_table[i];
	return NULL;
}

static size_t least(size_t a, size_t b, size_t c)
{
	size_t d = a < b ? a : b;
	return d < c ? d : c;
}

/* Insertions, deletions and replacements that make `a` into `b`; both at most NAME_OCTETS long. */
static size_t distance(struct bytes a, struct bytes b)
{
	size_t row[NAME_OCTETS + 1];
	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t corner = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t above = row[j];
			row[j] = least(above + 1, row[j - 1] + 1, corner + (a.at[i - 1] != b.at[j - 1]));
			corner = above;
		}
	}
	return row[b.len];
}

const char *setting_nearest(struct bytes name)
{
	const char *nearest = NULL;
	size_t best = name.len < 6 ? 2 : 4;   /* farther than this is no likely slip */
	if (name.len == 0 || name.len > NAME_OCTETS)
		return NULL;
	for (size_t i = 0; i < setting_count; i++) {
		size_t d = distance(name, bytes_of(setting_table[i].name));
		if (d < best) {
			best = d;
			nearest = setting_table[i].name;
		}
	}
	return nearest;
}

/* ---- showing a value as it would stand in its file ---- */

struct unit { uint64_t size; char letter; };
static const struct unit time_units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 0 } };
static const struct unit size_units[] = { { 1u << 30, 'G' }, { 1u << 20, 'M' }, { 1u << 10, 'K' }, { 1, 0 } };

static void show_units(uint64_t value, const struct unit *unit, struct str *out)
{
	while (unit->letter && (value == 0 || value % unit->size != 0))
		unit++;
	str_add_u64(out, value / unit->size);
	if (unit->letter)
		str_add_char(out, unit->letter);
}

static void show_list(const struct lines *list, struct str *out)
{
	for (size_t i = 0; i < list->count; i++) {
		if (i > 0)
			str_add_char(out, '\n');
		str_add(out, list->at[i]);
	}
}

void setting_show(const struct settings *s, const struct setting_row *row, struct str *out)
{
	const void *member = (const char *)s + row->offset;
	switch (row->type) {
	case SETTING_TYPE_NUM: str_add_u64(out, *(const uint64_t *)member); break;
	case SETTING_TYPE_SECONDS: show_units(*(const uint64_t *)member, time_units, out); break;
	case SETTING_TYPE_SIZE: show_units(*(const uint64_t *)member, size_units, out); break;
	case SETTING_TYPE_FLAG: str_add_c(out, *(const bool *)member ? "yes" : "no"); break;
	case SETTING_TYPE_DOMAIN:
	case SETTING_TYPE_LINE:
	case SETTING_TYPE_WORD: str_add(out, *(const struct bytes *)member); break;
	case SETTING_TYPE_LIST: show_list(member, out); break;
	}
}
