/* filterask - smtpd's room: asking filterd. See filterask.h. */
#include "filterask.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "smtpd/content/content.h"
#include "smtpd/filterd/wire.h"

#include "common/channel.h"
#include "common/io.h"
#include "common/log.h"
#include "common/passing.h"
#include "common/paths.h"
#include "common/sibling.h"

#define CONNECT_MS 10000u
#define SPARE_MS 30000u            /* beyond what filterd itself waits */
#define QUESTION_MAX 2048u
#define FILTER_TEXT 300u           /* octets of a reply */

enum { MESSAGE, ENVELOPE, COPIES };

/* ---- what is shown */

static bool add_piece(void *to, struct bytes piece)
{
	return draft_add(to, piece);
}

/* qmail-queue's: F sender, T recipient each, and an empty field. */
static void add_envelope(const struct session *s, struct draft *out)
{
	draft_add(out, LIT("F"));
	draft_add(out, s->mail.sender.text);
	draft_add(out, (struct bytes){ "", 1 });
	for (struct bytes rest = str_bytes(&s->mail.recipients); rest.len > 0;) {
		struct bytes field = bytes_cut(&rest, '\0');
		if (field.len > 0 && field.at[0] == 'T' && draft_add(out, field))
			draft_add(out, (struct bytes){ "", 1 });
	}
	draft_add(out, (struct bytes){ "", 1 });
}

/* Both descriptors, or none and errno. */
static bool share_copies(const struct session *s, struct bytes trace, int shared[COPIES])
{
	struct draft copy[COPIES];
	int error = 0;
	for (size_t i = 0; i < COPIES; i++)
		draft_init(&copy[i]);
	if (draft_add(&copy[MESSAGE], trace) && !content_each(s->content, add_piece, &copy[MESSAGE]) && copy[MESSAGE].error == 0)
		copy[MESSAGE].error = EIO;
	add_envelope(s, &copy[ENVELOPE]);
	for (size_t i = 0; i < COPIES; i++) {
		shared[i] = draft_share(&copy[i]);
		error = copy[i].error != 0 ? copy[i].error : error;
	}
	for (size_t i = 0; i < COPIES; i++) {
		draft_free(&copy[i]);
		if (error != 0)
			io_close(&shared[i]);
	}
	errno = error;
	return error == 0;
}

/* ---- the question */

static bool send_question(const struct session *s, int fd, const int shared[COPIES])
{
	const struct peer *p = s->peer;
	struct str out = STR_INIT(QUESTION_MAX);
	struct filter_ask ask = {
		.relay = s->may_relay, .client = bytes_of(p->ip), .name = bytes_of(strcmp(p->name, "unknown") != 0 ? p->name : ""), .login = bytes_of(s->login),
		.suffix = bytes_slice(s->relay_suffix, 0, 255),
	};
	bool sent = filter_ask_encode(&ask, &out) && passing_send(fd, str_bytes(&out), shared, COPIES, 0);
	str_free(&out);
	return sent;
}

static bool wait_for_answer(const struct session *s, struct record_reader *in, struct filter_answer *answer_r)
{
	struct record record;
	uint64_t most = FILTER_WAIT_MS + s->settings->filters.count * s->settings->filtertimeout * SECOND_MS + SPARE_MS;
	deadline_t deadline = deadline_in(clock_monotonic_ms(), most);
	int got;
	do
		got = record_reader_wait(in, &record, deadline);
	while (got < 0 && errno == EINTR);
	if (got == 0)
		errno = EPIPE;
	if (got == 1)
		errno = EPROTO;
	return got == 1 && record.type == REC_filter_answer && filter_answer_decode(record.payload, answer_r) && answer_r->verdict < FILTER_VERDICTS;
}

/* ---- the answer */

static const struct default_reply { unsigned code; const char *enhanced, *text; } replies[FILTER_VERDICTS] = {
	[FILTER_TEMP] = { 451, "4.7.1", "The message is not taken now, try again later" },
	[FILTER_PERM] = { 554, "5.7.1", "The message is refused" },
	[FILTER_BROKEN] = { 451, "4.3.0", "The message cannot be judged now, try again later" },
	[FILTER_BUSY] = { 451, "4.3.2", "Too many messages wait to be judged, try again later" },
};

/* ASCII alone, and nothing that could end a line. */
static void clean(struct bytes text, char out[FILTER_TEXT + 1])
{
	size_t n = 0;
	for (; n < text.len && n < FILTER_TEXT; n++)
		out[n] = text.at[n] >= ' ' && text.at[n] < 127 ? text.at[n] : '?';
	out[n] = '\0';
}

static bool refuse(struct session *s, const struct filter_answer *a)
{
	const struct default_reply *r = &replies[a->verdict];
	char text[FILTER_TEXT + 1], name[FILTER_TEXT + 1], check[60], enhanced[16];
	struct enhanced e;
	struct str code = STR_INIT(sizeof enhanced - 1);
	size_t used = enhanced_parse(a->text, r->code, &e);
	if (used > 0)
		enhanced_format(e, &code);
	clean(bytes_trim(bytes_slice(a->text, used, a->text.len)), text);
	clean(a->filter, name);
	bytes_to_cstring(used > 0 ? str_bytes(&code) : bytes_of(r->enhanced), enhanced, sizeof enhanced);
	str_free(&code);
	snprintf(check, sizeof check, "filters/%.40s", name);
	const char *said = text[0] != '\0' ? text : r->text;
	session_reject_log(s, name[0] != '\0' ? check : "filters", "reject", NULL, r->code, enhanced, said);
	session_reply(s, r->code, enhanced, "%s", said);
	return false;
}

static bool carry_out(struct session *s, const struct filter_answer *a)
{
	if (a->verdict == FILTER_PASS)
		return true;
	if (a->verdict != FILTER_HOLD)
		return refuse(s, a);
	return content_hold(s->content, "filters", a->filter, a->text) || content_refuse_draft(s, ENOMEM);
}

/* Nobody has judged it: a reason of ours. */
static bool put_off(struct session *s, const char *what)
{
	log_warn("filterd %s: %s; the message is put off", what, strerror(errno));
	return refuse(s, &(struct filter_answer){ .verdict = FILTER_BROKEN });
}

bool filterask(struct session *s, struct bytes trace)
{
	struct filter_answer answer;
	struct record_reader in;
	int shared[COPIES];
	if (s->settings->filters.count == 0)
		return true;
	int fd = sibling_connect(SOCKET_FILTER, ACCOUNT_FILTER, CONNECT_MS);
	if (fd < 0)
		return put_off(s, "is not there");
	bool copied = share_copies(s, trace, shared);
	int error = errno;
	bool asked = copied && send_question(s, fd, shared);
	for (size_t i = 0; copied && i < COPIES; i++)
		io_close(&shared[i]);
	record_reader_init(&in, fd);
	bool good = !copied ? content_refuse_draft(s, error) : asked && wait_for_answer(s, &in, &answer) ? carry_out(s, &answer) : put_off(s, "gives no answer");
	record_reader_free(&in);
	io_close(&fd);
	return good;
}
