/*
 * fuzz_settings - any octets as the text of any control file. The first octet chooses the setting. A refused value has a fault with a
 * line and a next step; an accepted one routes without harm.
 */
#include <stdlib.h>
#include <string.h>

#include "common/route.h"
#include "common/settings.h"
#include "common/settings_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void route(const struct settings *s)
{
	static const char *const to[] = { "joe@example.org", "joe-x@a.virtual.example", "x@[192.0.2.1]", "\"a b\"@example.net" };
	for (size_t i = 0; i < sizeof to / sizeof to[0]; i++) {
		struct mailaddr addr;
		struct route r;
		must(mailaddr_parse(bytes_of(to[i]), &addr) == ADDR_OK);
		route_find(s, &addr, &r);
		must(r.destination_len <= DESTINATION_MAX && strlen(r.destination) <= r.destination_len);
		route_is_ours(s, &addr);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	const struct setting_row *row = &setting_table[data[0] % setting_count];
	struct settings_memory memory = { NULL };
	struct settings s = { .memory = &memory };
	struct str faults = STR_INIT(1u << 20), shown = STR_INIT(1u << 20);
	struct parse p = { row, row->name, &memory, &faults, true };
	if (parse_setting(&p, (struct bytes){ (const char *)data + 1, size - 1 }, (char *)&s + row->offset)) {
		must(faults.len == 0);
		setting_show(&s, row, &shown);
		route(&s);
	} else {
		must(strstr(str_c(&faults), "; ") && strchr(str_c(&faults), ':'));
	}
	setting_nearest((struct bytes){ (const char *)data, size });
	settings_memory_free(&memory);
	str_free(&faults);
	str_free(&shown);
	return 0;
}
