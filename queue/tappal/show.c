/*
 * show - see show.h. Room: queue, the operator's own uid; what it prints came from strangers.
 */
#include "show.h"

#include <langinfo.h>
#include <libsmartcols/libsmartcols.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct show show;

void show_init(void)
{
	setlocale(LC_CTYPE, "");
	show.tty = isatty(1) == 1;
	show.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

bool show_is_tty(void)
{
	return show.tty;
}

/* ---- clean text ---- */

/* Length of the UTF-8 sequence at the start of b (RFC 3629: shortest forms, no surrogates), 0 when there is none. */
static size_t utf8_take(struct bytes b, uint32_t *point_r)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char c = (unsigned char)b.at[0];
	size_t n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
	uint32_t point = n < 2 ? c : c & (0x7fu >> n);

	if (n == 0 || n > b.len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if (((unsigned char)b.at[i] & 0xc0u) != 0x80)
			return 0;
		point = point << 6 | ((unsigned char)b.at[i] & 0x3fu);
	}
	if (n > 1 && (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)))
		return 0;
	*point_r = point;
	return n;
}

static bool is_printable(uint32_t p)
{
	if (p < 32 || (p >= 0x7f && p < 0xa0))
		return false;
	/* line and paragraph separators, marks and overrides of direction, byte order mark, tags */
	return !(p >= 0x2028 && p <= 0x202e) && !(p >= 0x2066 && p <= 0x2069) && p != 0x200e && p != 0x200f && p != 0x61c && p != 0xfeff && !(p >= 0xe0000 && p < 0xe0080);
}

static void clean(struct bytes b, bool lines, bool utf8, struct str *out)
{
	for (size_t i = 0; i < b.len;) {
		uint32_t point = 0;
		size_t n = utf8_take(bytes_slice(b, i, b.len), &point);
		bool keep = n > 0 && is_printable(point) && (n == 1 || utf8);

		if (lines && n == 1 && (point == '\n' || point == '\t'))
			keep = true;
		if (lines && n == 1 && point == '\r' && i + 1 < b.len && b.at[i + 1] == '\n') {
			i++;
			continue;
		}
		if (keep)
			str_add(out, bytes_slice(b, i, i + n));
		else
			str_add_char(out, n == 1 && (point == '\t' || point == '\n') ? ' ' : '?');
		i += n > 0 ? n : 1;
	}
}

void show_clean(struct bytes b, struct str *out)
{
	clean(b, false, show.utf8 || !show.tty, out);
}

void show_clean_text(struct bytes b, struct str *out)
{
	clean(b, true, show.utf8 || !show.tty, out);
}

const char *show_text(struct bytes b)
{
	static struct str copy[8];
	static unsigned turn;
	struct str *s = &copy[turn++ % 8];

	s->max = 8192;
	str_clear(s);
	show_clean(b, s);
	return str_c(s);
}

void show_time(wall_ms_t at, struct str *out)
{
	time_t seconds = (time_t)(at / SECOND_MS);
	struct tm tm;
	char text[64];

	if (localtime_r(&seconds, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) == 0)
		str_add_c(out, "?");
	else
		str_add_c(out, text);
}

void show_time_from(wall_ms_t at, wall_ms_t now, struct str *out)
{
	if (at == UINT64_MAX) {
		str_add_c(out, "never");
		return;
	}
	show_time(at, out);
	str_add_c(out, at > now ? " (in " : " (");
	clock_span(at > now ? at - now : now - at, out);
	str_add_c(out, at > now ? ")" : " ago)");
}

void show_size(uint64_t octets, struct str *out)
{
	static const char unit[] = "KMGT";
	uint64_t tenths = octets * 10 / 1024;
	size_t u = 0;

	if (octets < 1024) {
		str_add_u64(out, octets);
		return;
	}
	for (; tenths >= 10240 && u < 3; u++)
		tenths /= 1024;
	if (tenths < 100)
		str_addf(out, "%llu.%llu%c", (unsigned long long)(tenths / 10), (unsigned long long)(tenths % 10), unit[u]);
	else
		str_addf(out, "%llu%c", (unsigned long long)(tenths / 10), unit[u]);
}

void show_sender(struct bytes sender, struct str *out)
{
	str_add_char(out, '<');
	show_clean(sender, out);
	str_add_c(out, sender.len == 0 ? "> (a bounce or another automatic message)" : ">");
}

/* ---- JSON ---- */

json_t *show_json(struct bytes b)
{
	struct str text = STR_INIT(1 << 16);
	json_t *value;

	clean(b, false, true, &text);
	value = json_stringn(str_c(&text), text.len);
	str_free(&text);
	return value;
}

json_t *show_json_seconds(wall_ms_t at)
{
	return json_integer((json_int_t)(at / SECOND_MS));
}

void show_json_number(json_t *object, const char *name, uint64_t value)
{
	json_object_set_new(object, name, json_integer((json_int_t)value));
}

void show_json_line(json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(object);
}

/* ---- tables ---- */

struct show_table { struct libscols_table *table; size_t columns; };

struct show_table *show_table_new(const struct show_column *columns, size_t count, bool heading)
{
	struct show_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->columns = count;
	t->table = scols_new_table();
	if (t->table == NULL) {
		free(t);
		return NULL;
	}
	scols_table_enable_noheadings(t->table, !heading);
	scols_table_enable_maxout(t->table, 0);
	if (!show.tty)
		scols_table_set_termforce(t->table, SCOLS_TERMFORCE_NEVER);
	for (size_t i = 0; i < count; i++) {
		int flags = (columns[i].right ? SCOLS_FL_RIGHT : 0) | (columns[i].cut && show.tty ? SCOLS_FL_TRUNC : 0);

		scols_table_new_column(t->table, columns[i].name, columns[i].width, flags);
	}
	return t;
}

void show_table_row(struct show_table *t, const struct bytes *cells)
{
	struct libscols_line *line = scols_table_new_line(t->table, NULL);
	struct str text = STR_INIT(8192);

	for (size_t i = 0; line != NULL && i < t->columns; i++) {
		str_clear(&text);
		show_clean(cells[i], &text);
		scols_line_set_data(line, i, text.len > 0 ? str_c(&text) : "-");
	}
	str_free(&text);
}

void show_table_print(struct show_table *t)
{
	scols_print_table(t->table);
	show_table_free(t);
}

void show_table_free(struct show_table *t)
{
	scols_unref_table(t->table);
	free(t);
}

bool show_flush(void)
{
	return fflush(stdout) == 0 && !ferror(stdout);
}
