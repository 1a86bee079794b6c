/* trail - room: local. See trail.h. */
#include "trail.h"

#include <string.h>

void trail_init(struct trail *t, void (*found)(void *context, struct bytes value), void *context) {
	*t = (struct trail){ .at_line_start = true, .found = found, .context = context };
}

static void take_line(struct trail *t) {
	struct bytes line = { t->line, t->len };
	struct bytes name = LIT("Delivered-To:");
	if (t->len < TRAIL_LINE && bytes_starts_nocase(line, name))
		t->found(t->context, bytes_trim(bytes_slice(line, name.len, line.len)));
	t->len = 0;
}

static void add(struct trail *t, struct bytes piece) {
	size_t room = TRAIL_LINE - t->len;
	if (piece.len >= room) {
		t->len = TRAIL_LINE;
		return;
	}
	memcpy(t->line + t->len, piece.at, piece.len);
	t->len += piece.len;
}

/* The first octet of a line says what the line before was: whole, unless this one continues it. */
static void begin_line(struct trail *t, char first) {
	if (first != ' ' && first != '\t')
		take_line(t);
	if (first == '\n')
		t->is_over = true;
	t->at_line_start = false;
}

void trail_feed(struct trail *t, struct bytes octets) {
	while (octets.len > 0 && !t->is_over) {
		if (t->at_line_start) {
			begin_line(t, octets.at[0]);
			continue;
		}
		size_t end = bytes_find(octets, '\n');
		add(t, bytes_slice(octets, 0, end));
		t->at_line_start = end < octets.len;
		octets = bytes_slice(octets, end + 1, octets.len);
	}
}

void trail_end(struct trail *t) {
	if (!t->is_over)
		take_line(t);
	t->is_over = true;
}
