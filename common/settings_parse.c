/*
 * settings_parse - the text of a control file into a typed value. Room: common.
 *
 * "#" lines and empty lines are dropped in every type but LINE, whose first line is taken as it is.
 */
#include "settings_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"
#include "keylist.h"
#include "log.h"

struct settings_chunk { struct settings_chunk *next; _Alignas(max_align_t) char octets[]; };

void *settings_allocate(struct settings_memory *memory, size_t size)
{
	size_t whole;
	struct settings_chunk *chunk = size_add(sizeof *chunk, size, &whole) ? malloc(whole) : NULL;
	if (!chunk)
		return NULL;
	chunk->next = memory->first;
	memory->first = chunk;
	return chunk->octets;
}

void settings_memory_free(struct settings_memory *memory)
{
	while (memory->first) {
		struct settings_chunk *next = memory->first->next;
		free(memory->first);
		memory->first = next;
	}
}

void parse_fault(struct parse *p, uint32_t line, const char *format, ...)
{
	char text[1200];
	va_list args;
	va_start(args, format);
	if (vsnprintf(text, sizeof text, format, args) < 0)
		text[0] = 0;
	va_end(args);
	str_addf(p->faults, "%s%s%s:%lu: %s\n", p->dir ? p->dir : "", p->dir ? "/" : "", p->row->name, (unsigned long)line, text);
	p->ok = false;
}

static bool out_of_memory(struct parse *p)
{
	parse_fault(p, 1, "no memory to read it; free some memory and try again");
	return false;
}

/* ---- lines ---- */

struct text_line { struct bytes text; uint32_t number; };

/* The next line of *rest that counts; false at the end. */
static bool next_line(struct bytes *rest, uint32_t *number, struct text_line *line_r)
{
	while (rest->len > 0) {
		struct bytes line = bytes_trim(bytes_cut(rest, '\n'));
		++*number;
		if (line.len == 0 || line.at[0] == '#')
			continue;
		*line_r = (struct text_line){ line, *number };
		return true;
	}
	return false;
}

static bool is_clean(struct bytes text)
{
	const unsigned char *at = (const unsigned char *)text.at;
	bool clean = true;
	for (size_t i = 0; i < text.len; i++)
		clean &= (at[i] >= 32 || at[i] == '\n' || at[i] == '\t') & (at[i] != 127);
	return clean;
}

/* Octets that have no place in a control file: they would end up in SMTP replies, log lines and file names. */
static bool check_octets(struct parse *p, struct bytes text)
{
	uint32_t line = 1;
	if (is_clean(text))
		return true;
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i];
		if (c == '\n')
			line++;
		if (c == '\r')
			parse_fault(p, line, "the line ends with a carriage return; save the file with Unix line ends");
		else if ((c < 32 && c != '\n' && c != '\t') || c == 127)
			parse_fault(p, line, "the control character %u stands in it; remove it", (unsigned)c);
		if (!p->ok)
			return false;
	}
	return true;
}

/* The only line of a file that holds one value. */
static bool only_line(struct parse *p, struct bytes text, struct text_line *line_r)
{
	struct text_line second;
	uint32_t number = 0;
	*line_r = (struct text_line){ { NULL, 0 }, 1 };
	if (!next_line(&text, &number, line_r)) {
		if (p->row->type == SETTING_TYPE_FLAG)
			return true;
		parse_fault(p, 1, "it is empty; write a value into it, or remove the file for the default%s%s", p->row->default_text[0] ? " " : "",
			p->row->default_text);
		return false;
	}
	if (next_line(&text, &number, &second)) {
		parse_fault(p, second.number, "a second line, where %s has one value; remove one of the two", p->row->name);
		return false;
	}
	return true;
}

static bool copy_text(struct parse *p, struct bytes text, struct bytes *copy_r)
{
	char *at = settings_allocate(p->memory, text.len + 1);
	if (!at)
		return out_of_memory(p);
	if (text.len > 0)
		memcpy(at, text.at, text.len);
	at[text.len] = 0;
	*copy_r = (struct bytes){ at, text.len };
	return true;
}

/* ---- numbers ---- */

static uint64_t unit_of(enum setting_type type, char letter)
{
	static const struct { char letter; enum setting_type type; uint64_t size; } units[] = {
		{ 's', SETTING_TYPE_SECONDS, 1 }, { 'm', SETTING_TYPE_SECONDS, 60 }, { 'h', SETTING_TYPE_SECONDS, 3600 },
		{ 'd', SETTING_TYPE_SECONDS, 86400 }, { 'w', SETTING_TYPE_SECONDS, 604800 },
		{ 'K', SETTING_TYPE_SIZE, 1u << 10 }, { 'M', SETTING_TYPE_SIZE, 1u << 20 }, { 'G', SETTING_TYPE_SIZE, 1u << 30 },
		{ 'k', SETTING_TYPE_SIZE, 1u << 10 }, { 'm', SETTING_TYPE_SIZE, 1u << 20 }, { 'g', SETTING_TYPE_SIZE, 1u << 30 },
	};
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
		if (units[i].letter == letter && units[i].type == type)
			return units[i].size;
	return 0;
}

static const char *number_form(enum setting_type type)
{
	switch (type) {
	case SETTING_TYPE_SECONDS: return "seconds, or a number with s, m, h, d or w behind it, like 30m";
	case SETTING_TYPE_SIZE: return "octets, or a number with K, M or G behind it, like 50M";
	default: return "a decimal number";
	}
}

static bool parse_number(struct parse *p, struct bytes text, uint64_t *value_r)
{
	struct text_line line;
	uint64_t value = 0, unit = 1;
	if (!only_line(p, text, &line))
		return false;
	struct bytes digits = line.text;
	uint64_t last = unit_of(p->row->type, digits.at[digits.len - 1]);
	if (last > 0) {
		unit = last;
		digits.len--;
	}
	if (!bytes_to_u64(digits, UINT64_MAX / unit, &value)) {
		parse_fault(p, line.number, "\"%s\" is no number; write %s", log_text(line.text), number_form(p->row->type));
		return false;
	}
	value *= unit;
	if (value < p->row->min || value > p->row->max) {
		parse_fault(p, line.number, "%s is out of range; write a value from %llu to %llu", log_text(line.text), (unsigned long long)p->row->min,
			(unsigned long long)p->row->max);
		return false;
	}
	*value_r = value;
	return true;
}

/* ---- the other types ---- */

static bool parse_flag(struct parse *p, struct bytes text, bool *value_r)
{
	struct text_line line;
	if (!only_line(p, text, &line))
		return false;
	bool yes = line.text.len == 0 || bytes_equal(line.text, LIT("1")) || bytes_equal(line.text, LIT("yes"));
	if (!yes && !bytes_equal(line.text, LIT("0")) && !bytes_equal(line.text, LIT("no"))) {
		parse_fault(p, line.number, "\"%s\" is neither yes nor no; write 1, 0, yes or no", log_text(line.text));
		return false;
	}
	*value_r = yes;
	return true;
}

static bool parse_domain(struct parse *p, struct bytes text, struct bytes *value_r)
{
	struct text_line line;
	char lower[DOMAIN_MAX + 1];
	if (!only_line(p, text, &line))
		return false;
	if (!domain_valid(line.text, false)) {
		parse_fault(p, line.number, "\"%s\" is no host name; write one like mx.example.org (letters, digits, hyphens, dots)", log_text(line.text));
		return false;
	}
	domain_lower(line.text, lower);
	return copy_text(p, bytes_of(lower), value_r);
}

static bool parse_line(struct parse *p, struct bytes text, struct bytes *value_r)
{
	struct bytes line = bytes_trim(bytes_cut(&text, '\n'));
	if (bytes_trim(text).len > 0) {
		parse_fault(p, 2, "a second line, where %s has one value; remove one of the two", p->row->name);
		return false;
	}
	parse_check_line(p, 1, line);
	return p->ok && copy_text(p, line, value_r);
}

/* Is `word` one of the words of help's "a|b|c - ..."? */
static bool is_word_of(struct bytes words, struct bytes word)
{
	while (words.len > 0)
		if (bytes_equal(bytes_cut(&words, '|'), word))
			return true;
	return false;
}

static bool parse_word(struct parse *p, struct bytes text, struct bytes *value_r)
{
	struct text_line line;
	struct bytes help = bytes_of(p->row->help), words = bytes_cut(&help, ' ');
	if (!only_line(p, text, &line))
		return false;
	if (!is_word_of(words, line.text)) {
		parse_fault(p, line.number, "\"%s\" is unknown here; write one of %.*s", log_text(line.text), (int)words.len, words.at);
		return false;
	}
	return copy_text(p, line.text, value_r);
}

/* At most so many lines count. */
static size_t count_lines(struct bytes text)
{
	size_t count = 0;
	for (; text.len > 0; count++)
		bytes_cut(&text, '\n');
	return count;
}

static bool index_list(struct parse *p, struct lines *list)
{
	uint32_t places = keylist_places(list->count);
	uint32_t *place = places > 0 ? settings_allocate(p->memory, places * sizeof *place) : NULL;
	if (places > 0 && !place)
		return out_of_memory(p);
	if (places > 0)
		keylist_index(list, place, places);
	return true;
}

static bool parse_list(struct parse *p, struct bytes text, struct lines *value_r)
{
	struct text_line line;
	uint32_t number = 0;
	struct bytes copy;
	if (!copy_text(p, text, &copy))
		return false;
	size_t room = count_lines(copy), octets, number_octets;
	if (!size_mul(room + 1, sizeof *value_r->at, &octets) || !size_mul(room + 1, sizeof *value_r->number, &number_octets))
		return out_of_memory(p);
	*value_r = (struct lines){ 0 };
	value_r->at = settings_allocate(p->memory, octets);
	value_r->number = settings_allocate(p->memory, number_octets);
	if (!value_r->at || !value_r->number)
		return out_of_memory(p);
	while (next_line(&copy, &number, &line)) {
		parse_check_line(p, line.number, line.text);
		value_r->at[value_r->count] = line.text;
		value_r->number[value_r->count++] = line.number;
	}
	return p->ok && index_list(p, value_r);
}

bool parse_setting(struct parse *p, struct bytes text, void *member)
{
	if (!check_octets(p, text))
		return false;
	switch (p->row->type) {
	case SETTING_TYPE_NUM:
	case SETTING_TYPE_SECONDS:
	case SETTING_TYPE_SIZE: return parse_number(p, text, member);
	case SETTING_TYPE_FLAG: return parse_flag(p, text, member);
	case SETTING_TYPE_DOMAIN: return parse_domain(p, text, member);
	case SETTING_TYPE_LINE: return parse_line(p, text, member);
	case SETTING_TYPE_WORD: return parse_word(p, text, member);
	case SETTING_TYPE_LIST: return parse_list(p, text, member);
	}
	return false;
}
