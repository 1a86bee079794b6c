/*
 * fuzz_report - any octets as what other people wrote: reply, host, ORCPT, ENVID, address. Whatever they are, the report has its three
 * parts and no more, lines end with CRLF and are short enough, and it is ASCII unless it says otherwise.
 */
#include <stdlib.h>

#include "queue/bounce/clean.h"
#include "queue/bounce/report.h"

#define BOUNDARY "=_0123456789abcdef0123456789abcdef"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool claim)
{
	if (!claim)
		abort();
}

/* The next field: up to a 0xfe octet. */
static struct bytes field(struct bytes *rest, size_t max)
{
	struct bytes f = bytes_cut(rest, (char)0xfe);
	return bytes_slice(f, 0, max);
}

static void check(struct bytes text, bool utf8)
{
	size_t boundaries = 0;

	for (size_t i = 0; !utf8 && i < text.len; i++)
		require(text.at[i] >= 0 && text.at[i] != 127);
	require(bytes_ends_nocase(text, LIT("\r\n")));
	while (text.len > 0) {
		struct bytes line = bytes_cut(&text, '\n');
		require(line.len > 0 && line.len <= 999 && line.at[line.len - 1] == '\r' && bytes_find(line, '\r') == line.len - 1);
		require(bytes_find(line, 0) == line.len);
		boundaries += bytes_starts_nocase(line, LIT("--" BOUNDARY));
	}
	require(boundaries == 4);
}

static void check_survey(struct bytes octets, size_t cut)
{
	struct survey whole, halves;

	survey_init(&whole, BOUNDARY);
	survey_feed(&whole, octets);
	survey_init(&halves, BOUNDARY);
	survey_feed(&halves, bytes_slice(octets, 0, cut));
	survey_feed(&halves, bytes_slice(octets, cut, octets.len));
	require(whole.header_size == halves.header_size && whole.has_boundary == halves.has_boundary && whole.eight_bit == halves.eight_bit);
	require(whole.header_size <= whole.size && whole.size == octets.len && (!whole.eight_bit_header || whole.eight_bit));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str out = STR_INIT(REPORT_MAX);

	if (size == 0)
		return 0;
	struct bytes rest = { (const char *)data + 1, size - 1 };
	check_survey(rest, size / 2);
	struct bounce_rcpt rcpt = { .id = 9, .code = (uint16_t)(data[0] & 1 ? 550 : 0), .e_class = (uint8_t)(data[0] & 2 ? 5 : 0), .last_try_ms = 1 };
	struct bounce_begin begin = { .id = 9, .rcpt_count = 1, .smtputf8 = (data[0] & 4) != 0, .sender = LIT("a@b.example") };
	rcpt.action = (uint8_t)((data[0] >> 3) % DSN_ACTIONS);
	rcpt.text = field(&rest, 1000);
	rcpt.host = field(&rest, 255);
	rcpt.orcpt = field(&rest, 1000);
	begin.envid = field(&rest, 1000);
	rcpt.address = field(&rest, 320);
	struct report r = { .begin = &begin, .rcpts = &rcpt, .me = LIT("mx.example"), .from_local = LIT("MAILER-DAEMON"), .from_host = LIT("mx.example"),
		.now = 1, .boundary = BOUNDARY, .original = ORIGINAL_WHOLE };
	require(mailaddr_parse(begin.sender, &r.to) == ADDR_OK);
	require(report_begin(&r, &out) && str_add_c(&out, "x: y\r\n") && report_end(&r, &out));
	check(str_bytes(&out), report_is_utf8(&r));
	str_free(&out);
	return 0;
}
