/*
 * test_downgrade - messages of 8 bits as 7 bits, and binary ones as lines. Each case, whole, byte by byte and split at every offset, against
 * tests/golden/downgrade; then what is about lengths: leaves that are not held to their end, headers, nesting, time.
 */
#include <time.h>

#include "unit.h"
#include "common/downgrade.h"

#define V "MIME-Version: 1.0\r\n"
#define TEXT "Content-Type: text/plain; charset=utf-8\r\n"
#define BIT8 "Content-Transfer-Encoding: 8bit\r\n"
#define BINARY_TO_7BIT (DOWNGRADE_MUST | DOWNGRADE_BINARY)
#define MIXED(b) "Content-Type: multipart/mixed; boundary=" b "\r\n"

/* B: also as a message of which nobody declared that it has 8-bit data. */
struct message_case { const char *name; const char *in; size_t len; bool both; };
static const struct message_case cases[] = {
#define C(name, in) { name, in, sizeof(in) - 1, false }
#define B(name, in) { name, in, sizeof(in) - 1, true }
	C("nothing", ""),
	C("only a header", "Subject: x\xe4\r\n"),
	C("a header without its end", "Subject: x"),
	C("no 8-bit data", V TEXT BIT8 "Subject: a\r\n\r\nplain\r\n"),
	C("labelled 7bit, and is", V TEXT "Content-Transfer-Encoding: 7bit\r\n\r\nplain\r\n"),
	C("8bit text, the label where it stood", V TEXT BIT8 "Subject: a\r\n\r\ngr\xc3\xbc\xc3\x9f""e\r\n"),
	C("a label that is wrong", V TEXT "content-transfer-encoding : 7BIT (no)\r\n\r\n\xe4\r\n"),
	C("no label", V TEXT "\r\n\xe4\r\n"),
	C("binary", V "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\na\0\x01\xff\r\n"),
	C("no MIME at all", "Subject: a\r\n\r\n\xe4\r\n"),
	C("no MIME-Version", TEXT "\r\n\xe4\r\n"),
	C("nothing but a body", "\r\n\xe4\r\n"),
	C("no empty line", V "\xe4: not a field\r\nmore\r\n"),
	C("no empty line and no field", "no field \xe4\r\n"),
	C("a line with a space in its name", "Subject: a\r\nnot field: \xe4\r\n"),
	C("a body that begins with space", "  text \xe4\r\n"),
	C("mbox line", "From joe Sat Nov 21 10:00:00\r\nSubject: a\r\n\r\n\xe4\r\n"),
	C("folded label", V TEXT "Content-Transfer-Encoding:\r\n 8bit\r\nSubject: a\r\n\r\n\xe4\r\n"),
	C("two labels", V TEXT BIT8 "X: y\r\n" BIT8 "\r\n\xe4\r\n"),
	C("two labels that differ", V TEXT BIT8 "Content-Transfer-Encoding: base64\r\n\r\n\xe4\r\n"),
	B("an unknown label", V TEXT "Content-Transfer-Encoding: x-uuencode\r\n\r\n\xe4\r\n"),
	C("an unknown label and no 8-bit data", V TEXT "Content-Transfer-Encoding: x-uuencode\r\n\r\na\r\n"),
	C("encoded already", V TEXT "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4 =\r\n\r\n"),
	C("8-bit header, 7-bit body", V TEXT BIT8 "Subject: \xe4\r\n\r\na\r\n"),
	C("spaces, tabs, dots, From", V TEXT "\r\n\xe4 \r\n\t\r\n.\r\n..a.\r\nFrom me\r\nFrom\r\n From me\r\nFro\r\na = b=\r\n"),
	C("dashes", V TEXT "\r\n\xe4\r\n-- \r\n--\r\n-\r\n- x\r\n"),
	C("soft breaks", V TEXT "\r\n" "0123456789012345678901234567890123456789012345678901234567890123456789012345\xe4\r\n"
		"012345678901234567890123456789012345678901234567890123456789012345678901234 \r\n"
		"012345678901234567890123456789012345678901234567890123456789012345678901234.\r\n"
		"012345678901234567890123456789012345678901234567890123456789012345678901234From here\r\n"
		"012345678901234567890123456789012345678901234567890123456789012345678901234--b\r\n"
		"0123456789012345678901234567890123456789012345678901234567890123456789012 4\xe4 \xe4\r\n"),
	C("no CRLF at the end", V TEXT "\r\n\xe4 "),
	C("bare CR and LF", V TEXT "\n\xe4\rb\nc\r\r\nd\n\r"),
	C("multipart", V MIXED("b") BIT8 "\r\nbefore \xe4\r\n--b\r\n" TEXT BIT8
		"\r\n\xe4\r\n--b \t\r\n" TEXT "\r\nplain\r\n--b\r\n\r\nno header \xe4 \r\n--b--\r\nafter \xe4\r\n"),
	C("the first part follows the header at once", V MIXED("b") "--b\r\nContent-Type: message/rfc822\r\n--b\r\n\r\n\xe4\r\n--b--\r\n"),
	C("parts that are clean", V MIXED("b") BIT8 "\r\n--b\r\n" TEXT BIT8 "\r\na\r\n--b\r\n" TEXT "\r\nb\r\n--b--\r\n"),
	C("boundaries that begin alike", V MIXED("ab") "\r\n--ab\r\n" MIXED("abc")
		"\r\n--abc\r\n\r\n\xe4 1\r\n--a\r\n--abcd\r\n--abc--\r\n\xe4\r\n--ab\r\n\r\n\xe4 2\r\n--ab--\r\n"),
	C("boundaries that begin alike, the other way", V MIXED("abc") "\r\n--abc\r\n" MIXED("ab")
		"\r\n--ab\r\n\r\n\xe4 1\r\n--ab--\r\n--abc\r\n\r\n\xe4 2\r\n--abc--\r\n"),
	C("the same boundary again", V MIXED("b") "\r\n--b\r\n" MIXED("b") "\r\n--b\r\n\r\n\xe4\r\n--b--\r\n"),
	C("the inner multipart is not closed", V MIXED("o") "\r\n--o\r\n" MIXED("i") "\r\n--i\r\n\r\n\xe4\r\n--o\r\n\r\n\xe4\r\n--o--\r\n"),
	C("nothing is closed", V MIXED("o") "\r\n--o\r\n" MIXED("i") "\r\n--i\r\n\r\n\xe4"),
	C("parts without a body", V MIXED("b") "\r\n--b\r\n--b\r\nX: y\r\n--b\r\n\r\n--b--"),
	C("a boundary that ends like the end", V MIXED("\"b--\"") "\r\n--b--\r\n\r\n\xe4\r\n--b----\r\n\xe4\r\n"),
	C("encoding makes no boundary", V MIXED("\"b=E4\"") "\r\n--b=E4\r\n\r\n--b\xe4\r\n--b=E4--\r\n"),
	C("boundary in quotes, folded, with comments",
		V "Content-Type: multipart (a) / (b) mixed ; x=\"; boundary=n\" ; (c)\r\n\tboundary = \"a\\b c\" (d)\r\n\r\n--ab c\r\n\r\n\xe4\r\n--ab c--\r\n"),
	C("boundary with space at its end", V "Content-Type: multipart/mixed; boundary=\"b  \"\r\n\r\n--b\r\n\r\n\xe4\r\n--b--\r\n"),
	C("boundary without quotes", V "Content-Type: multipart/mixed; boundary=----=_Part/1:2\r\n\r\n------=_Part/1:2\r\n\r\n\xe4\r\n"),
	C("multipart without a boundary", V "Content-Type: multipart/mixed\r\n" BIT8 "\r\n--b\r\n\r\n\xe4\r\n"),
	B("boundary in pieces", V "Content-Type: multipart/mixed; boundary*0=a; boundary*1=b\r\n\r\n--ab\r\n\r\n\xe4\r\n"),
	C("signed", V "Content-Type: multipart/signed; micalg=pgp-sha256; protocol=\"application/pgp-signature\"; boundary=s\r\n\r\n--s\r\n" TEXT BIT8
		"\r\n\xe4\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n--s--\r\n"),
	B("message", V MIXED("b") "\r\n--b\r\nContent-Type: message/rfc822\r\n" BIT8 "\r\nSubject: in\r\n" V TEXT BIT8
		"\r\n\xe4\r\n--b\r\nContent-Type: Message/RFC822\r\n\r\nSubject: in\r\n\r\n\xe4\r\n--b--\r\n"),
	C("message as the whole",
		V "Content-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xe4\r\n--b--\r\n"),
	C("digest", V "Content-Type: multipart/digest; boundary=b\r\n"
		"\r\n--b\r\n\r\nSubject: one\r\n\r\n\xe4\r\n--b\r\n" TEXT "\r\n\xe4\r\n--b--\r\n"),
	C("message without a header of its own", V "Content-Type: message/rfc822\r\n\r\n\xe4 no field\r\n"),
	C("encoded message", V "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA==\r\n"),
	B("encoded message with 8-bit data", V "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n\xe4\r\n"),
	B("partial", V "Content-Type: message/partial; id=1; number=1; total=2\r\n\r\nSubject: a\r\n\r\n\xe4\r\n"),
	C("partial without 8-bit data", V "Content-Type: message/partial; id=1; number=1; total=2\r\n" BIT8 "\r\nSubject: a\r\n\r\na\r\n"),
	C("external-body", V "Content-Type: message/external-body; access-type=x\r\n\r\nContent-ID: <a>\r\n\r\n\xe4\r\n"),
	C("delivery-status", V "Content-Type: message/delivery-status\r\n" BIT8 "\r\nReporting-MTA: dns; a\r\n\r\nDiagnostic-Code: x-\xe4\r\n"),
	C("Content-Type without a slash", V "Content-Type: text\r\n\r\n\xe4\r\n"),
	C("two types, the first counts", V TEXT MIXED("b") "\r\n--b\r\n\r\n\xe4\r\n"),
#undef B
};

#define BINARY "Content-Transfer-Encoding: binary\r\n"
#define OCTETS "Content-Type: application/octet-stream\r\n" BINARY

static const struct message_case binary_cases[] = {
	C("octets", V OCTETS "\r\na\0\x01\xff\r\n.\r\n\n\r\r\n\r"),
	C("octets that end with a line", V OCTETS "\r\na\0\r\n"),
	C("no octets", V OCTETS "\r\n"),
	C("octets that could be text", V OCTETS "\r\nplain\r\n"),
	C("octets that nobody labelled", V "Content-Type: image/png\r\n\r\nplain\r\n\x89PNG\r\n\x1a\n\0\r\n"),
	C("octets of which nobody said anything", "\r\na\0b"),
	C("text", V TEXT BINARY "\r\nplain\r\n"),
	C("text of 8 bits", V TEXT BINARY "\r\ngr\xc3\xbc\xc3\x9f""e\r\n"),
	C("text without an end", V TEXT BINARY "\r\nplain"),
	C("text with a bare LF", V TEXT BINARY "\r\none\ntwo\r\n"),
	C("text with a bare CR at its end", V TEXT BINARY "\r\none\r"),
	C("text labelled 8bit", V TEXT BIT8 "\r\ngr\xc3\xbc\xc3\x9f""e\r\n"),
	C("text labelled 8bit, and a NUL", V TEXT BIT8 "\r\none\r\n\0\r\n"),
	C("text that is quoted before the NUL", V TEXT BIT8 "\r\n\xe4\r\n\0\r\n"),
	C("no empty line", V OCTETS "no field\0\n"),
	C("multipart", V MIXED("b") BINARY "\r\nbefore\0\r\n--b\r\n" OCTETS "\r\n\0\r\n--b\n\r\n--b\r\n" OCTETS "\r\n--b\r\n" OCTETS "\r\n\r\n--b\r\n"
		TEXT BINARY "\r\n\xe4\r\n--b\r\n" TEXT BINARY "\r\nplain\r\n--b--\r\nafter \xe4\r\n"),
	C("not closed", V MIXED("b") "\r\n--b\r\n" OCTETS "\r\n\0\r\n"),
	C("message", V "Content-Type: message/rfc822\r\n" BINARY "\r\nSubject: in\r\n" OCTETS "\r\n\0"),
	C("encoded already", V "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw==\r\n"),
	C("said to be encoded", V "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n\0\r\n"),
	C("partial", V "Content-Type: message/partial; id=1; number=1; total=2\r\n\r\nSubject: a\r\n\r\n\0\r\n"),
	C("labelled partial", V "Content-Type: message/partial; id=1; number=1; total=2\r\n" BINARY "\r\nSubject: a\r\n\r\na\r\n"),
	C("signed", V "Content-Type: multipart/signed; boundary=s\r\n" BINARY "\r\n--s\r\n" TEXT "\r\nplain\r\n--s\r\n\r\nsignature\r\n--s--\r\n"),
	C("signed and binary", V "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n" OCTETS "\r\nplain\r\n--s--\r\n"),
	C("signed with a NUL", V "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n" MIXED("b") "\r\n--b\r\n" TEXT "\r\n\0\r\n--b--\r\n--s--\r\n"),
	C("a NUL in a header", V MIXED("b") "\r\n--b\r\nSubject: \0\r\n\r\nplain\r\n--b--\r\n"),
	C("a bare LF in a header", V MIXED("b") "\r\n--b\r\nSubject: a\nBcc: b\r\n\r\nplain\r\n--b--\r\n"),
#undef C
};

static bool feed(struct bytes in, unsigned wish, size_t first, size_t step, struct str *out, const char **why_r)
{
	static struct downgrade d;
	bool good = true;

	downgrade_init(&d, wish);
	for (size_t at = 0, end = first; at < in.len && good; at = end, end += step)
		good = downgrade_add(&d, bytes_slice(in, at, end), out);
	good = good && downgrade_end(&d, out);
	assert_false(d.held.failed);
	assert_false(out->failed);
	*why_r = d.why;
	downgrade_free(&d);
	return good;
}

static void show(struct str *to, struct bytes text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i];

		if (c == '\n')
			str_add_c(to, "\\n\n");
		else if (c == '\r')
			str_add_c(to, "\\r");
		else if (c < ' ' || c > 126)
			str_addf(to, "\\x%02x", c);
		else
			str_add_char(to, (char)c);
	}
}

static void show_case(struct str *to, const struct message_case *c, unsigned wish, const char *note)
{
	struct bytes in = { c->in, c->len };
	struct str whole = STR_INIT(1 << 16), other = STR_INIT(1 << 16);
	const char *why;
	bool good = feed(in, wish, in.len, 1, &whole, &why);

	str_addf(to, "== %s%s\n", c->name, note);
	if (good)
		show(to, str_bytes(&whole));
	else
		str_addf(to, "cannot: %s", why);
	str_add_c(to, "\n");
	for (size_t split = 0; split <= in.len; split++) {
		str_clear(&other);
		assert_int_equal(feed(in, wish, split, split == 0 ? 1 : in.len, &other, &why), good);
		assert_true(!good || bytes_equal(str_bytes(&other), str_bytes(&whole)));
	}
	str_free(&whole);
	str_free(&other);
}

static void test_golden(void **state)
{
	struct str shown = STR_INIT(1 << 20);

	(void)state;
	for (size_t n = 0; n < COUNT(cases); n++)
		show_case(&shown, &cases[n], DOWNGRADE_MUST, "");
	for (size_t n = 0; n < COUNT(cases); n++)
		if (cases[n].both)
			show_case(&shown, &cases[n], 0, " (not declared)");
	for (size_t n = 0; n < COUNT(binary_cases); n++) {
		show_case(&shown, &binary_cases[n], BINARY_TO_7BIT, " (binary)");
		show_case(&shown, &binary_cases[n], BINARY_TO_7BIT | DOWNGRADE_TO_8BIT, " (binary, to 8 bits)");
	}
	unit_golden("downgrade", &shown);
	str_free(&shown);
}

/* What is 7 bits is not touched. */
static void test_unchanged(void **state)
{
	static const char *const same[] = { "only a header", "labelled 7bit, and is", "an unknown label and no 8-bit data", "encoded already",
		"parts without a body", "encoded message", "partial without 8-bit data" };
	struct str out = STR_INIT(1 << 16);
	const char *why;
	size_t found = 0;

	(void)state;
	for (size_t n = 0; n < COUNT(cases); n++)
		for (size_t i = 0; i < COUNT(same); i++)
			if (strcmp(cases[n].name, same[i]) == 0) {
				str_clear(&out);
				assert_true(feed((struct bytes){ cases[n].in, cases[n].len }, DOWNGRADE_MUST, 1, 1, &out, &why));
				assert_true(bytes_equal(str_bytes(&out), (struct bytes){ cases[n].in, cases[n].len }));
				found++;
			}
	assert_int_equal(found, COUNT(same));
	str_free(&out);
}

/* ---- lengths */

static void add_times(struct str *s, const char *text, size_t times)
{
	for (size_t i = 0; i < times; i++)
		str_add_c(s, text);
}

static void has(const struct str *out, const char *text, bool wanted)
{
	assert_int_equal(out->len > 0 && memmem(out->at, out->len, text, strlen(text)) != NULL, wanted);
}

static void check_lines(const struct str *out, size_t max)
{
	size_t column = 0;

	for (size_t i = 0; i < out->len; i++) {
		column = out->at[i] == '\n' ? 0 : column + 1;
		assert_true(column <= max + 1);
	}
}

/* A clean leaf of more than is held, and an 8-bit octet behind that: encoded when the sender spoke of 8 bits, else sent as it came. */
static void test_long_leaf(void **state)
{
	struct str in = STR_INIT(4 << 20), out = STR_INIT(16 << 20);
	const char *why;

	(void)state;
	str_add_c(&in, V TEXT "\r\n");
	add_times(&in, "A line of a log file that nobody ever reads = 50 octets.\r\n", 20000);
	assert_true(feed(str_bytes(&in), 0, 1000, 1000, &out, &why));
	assert_true(bytes_equal(str_bytes(&in), str_bytes(&out)));
	str_add_c(&in, "\xe4\r\n");
	str_clear(&out);
	assert_true(feed(str_bytes(&in), 0, 1000, 1000, &out, &why));
	assert_true(bytes_equal(str_bytes(&in), str_bytes(&out)));
	str_clear(&out);
	assert_true(feed(str_bytes(&in), DOWNGRADE_MUST, 1000, 1000, &out, &why));
	has(&out, "Content-Transfer-Encoding: quoted-printable\r\n", true);
	has(&out, " =3D 50", true);
	has(&out, "\r\n=E4\r\n", true);
	check_lines(&out, 76);
	str_free(&in);
	str_free(&out);
}

/* Binary octets of any number become base64 in lines, and octets that nobody labelled do when they are held no longer. */
static void test_long_binary(void **state)
{
	struct str in = STR_INIT(4 << 20), out = STR_INIT(16 << 20);
	const char *why;

	(void)state;
	for (size_t times = 57; times < 60; times++) {
		str_clear(&in);
		str_clear(&out);
		str_add_c(&in, V OCTETS "\r\n");
		add_times(&in, "x", times);
		assert_true(feed(str_bytes(&in), BINARY_TO_7BIT, 1000, 1000, &out, &why));
		has(&out, "Content-Transfer-Encoding: base64\r\n\r\neHh4", true);
		assert_int_equal(out.len, in.len - times + 2 + (times > 57 ? 78 + 4 : 76));
		check_lines(&out, 76);
	}
	str_clear(&in);
	str_clear(&out);
	str_add_c(&in, V TEXT BINARY "\r\n");
	add_times(&in, "A line of a log file that nobody ever reads = 50 octets.\r\n", 20000);
	str_add(&in, (struct bytes){ "", 1 });
	assert_true(feed(str_bytes(&in), BINARY_TO_7BIT | DOWNGRADE_TO_8BIT, 1000, 1000, &out, &why));
	has(&out, "Content-Transfer-Encoding: base64\r\n", true);
	check_lines(&out, 76);
	str_free(&in);
	str_free(&out);
}

/* Lines of 998 octets stay, of 999 do not; a leaf between others is judged by itself. */
static void test_long_lines(void **state)
{
	struct str in = STR_INIT(1 << 16), out = STR_INIT(1 << 20);
	const char *why;

	(void)state;
	for (size_t more = 0; more <= 3000; more += more < 4 ? 1 : 331) {
		str_clear(&in);
		str_clear(&out);
		str_add_c(&in, V TEXT "\r\n");
		add_times(&in, "x", 998 + more);
		str_add_c(&in, "\r\nend\r\n");
		assert_true(feed(str_bytes(&in), DOWNGRADE_MUST, 100, 7, &out, &why));
		has(&out, "quoted-printable", more > 0);
		check_lines(&out, more > 0 ? 76 : 998);
	}
	str_free(&in);
	str_free(&out);
}

static void test_long_header(void **state)
{
	struct str in = STR_INIT(4 << 20), out = STR_INIT(16 << 20);
	const char *why;

	(void)state;
	str_add_c(&in, V TEXT);
	add_times(&in, "X-Other: this is one of many fields\r\n", 20000);
	str_add_c(&in, "\r\n\xe4\r\n");
	assert_false(feed(str_bytes(&in), DOWNGRADE_MUST, 1000, 1000, &out, &why));
	assert_string_equal(why, "a header is too long");
	str_clear(&out);
	assert_true(feed(str_bytes(&in), 0, 1000, 1000, &out, &why));
	assert_true(bytes_equal(str_bytes(&in), str_bytes(&out)));
	str_free(&in);
	str_free(&out);
}

static void test_long_boundary(void **state)
{
	struct str in = STR_INIT(1 << 16), out = STR_INIT(1 << 16);
	const char *why;

	(void)state;
	for (size_t len = 70; len <= 257; len++) {
		str_clear(&in);
		str_clear(&out);
		str_add_c(&in, V "Content-Type: multipart/mixed; boundary=");
		add_times(&in, "b", len);
		str_add_c(&in, "\r\n\r\n--");
		add_times(&in, "b", len);
		str_add_c(&in, "\r\n\r\n\xe4\r\n");
		assert_int_equal(feed(str_bytes(&in), DOWNGRADE_MUST, 50, 50, &out, &why), len <= MIMEHEAD_BOUNDARY_MAX);
	}
	str_free(&in);
	str_free(&out);
}

static void nest(struct str *in, size_t depth)
{
	str_clear(in);
	for (size_t i = 0; i < depth; i++)
		str_addf(in, "Content-Type: multipart/mixed; boundary=b%zu\r\n\r\n--b%zu\r\n", i, i);
	str_add_c(in, "\r\n\xe4\r\n");
}

static void test_nesting(void **state)
{
	struct str in = STR_INIT(1 << 20), out = STR_INIT(1 << 20);
	const char *why;

	(void)state;
	nest(&in, DOWNGRADE_DEPTH);
	assert_true(feed(str_bytes(&in), DOWNGRADE_MUST, 9, 9, &out, &why));
	has(&out, "=E4\r\n", true);
	nest(&in, DOWNGRADE_DEPTH + 1);
	assert_false(feed(str_bytes(&in), DOWNGRADE_MUST, 9, 9, &out, &why));
	assert_string_equal(why, "its parts are nested too deeply");
	str_clear(&out);
	assert_true(feed(str_bytes(&in), 0, 9, 9, &out, &why));
	assert_true(bytes_equal(str_bytes(&in), str_bytes(&out)));
	str_free(&in);
	str_free(&out);
}

/* Twice the input takes about twice the time: what invites a second look at the same octets, once and then eight times as long. */
static double seconds(const char *head, const char *text, size_t octets)
{
	struct str in = STR_INIT(64 << 20), out = STR_INIT(512 << 20);
	const char *why;
	clock_t start;

	str_add_c(&in, head);
	add_times(&in, text, octets / strlen(text));
	start = clock();
	(void)feed(str_bytes(&in), 0, 32768, 32768, &out, &why);
	str_free(&in);
	str_free(&out);
	return (double)(clock() - start) / CLOCKS_PER_SEC;
}

static void test_time_is_linear(void **state)
{
	static const struct { const char *head, *text; } hostile[] = {
		{ "", "Content-Type: text/plain\r\n" }, { "", "Content-Transfer-Encoding: 8bit\r\n" }, { "Content-Type: text/plain; a=\"", "\\" },
		{ "Content-Type: text/plain; ", "(" }, { "Content-Type: multipart/mixed", ";" }, { "Content-Type: multipart/mixed", ";boundary*=" },
		{ "Subject: x\r\n", " \r\n" }, { MIXED("b") "\r\n", "--b\r\n" }, { MIXED("b") "\r\n--b\r\n\r\n", "--c\r\n" },
		{ MIXED("b") "\r\n--b\r\n\r\n", "\xe4--" },
		{ MIXED("b") "\r\n", "--b\r\nContent-Type: message/rfc822\r\n\r\n" },
		{ MIXED("b") "\r\n", "--b\r\n" MIXED("c") "\r\n" }, { "\r\n", "\xe4 " }, { "\r\n", "\r" },
	};

	(void)state;
	for (size_t n = 0; n < COUNT(hostile); n++) {
		double once = seconds(hostile[n].head, hostile[n].text, 256 << 10), often = seconds(hostile[n].head, hostile[n].text, 2 << 20);

		if (often > 0.3 && often > 30 * once)
			fail_msg("%s%s: %f s for 256 KiB, %f s for 2 MiB", hostile[n].head, hostile[n].text, once, often);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden), cmocka_unit_test(test_unchanged), cmocka_unit_test(test_long_leaf),
		cmocka_unit_test(test_long_binary), cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_long_header), cmocka_unit_test(test_long_boundary), cmocka_unit_test(test_nesting), cmocka_unit_test(test_time_is_linear),
	};

	return cmocka_run_group_tests_name("downgrade", tests, NULL, NULL);
}
