/* calloutask - smtpd's room: asking callout. See calloutask.h. */
#include "calloutask.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/channel.h"
#include "common/io.h"
#include "common/paths.h"
#include "common/sibling.h"

#define GRACE_MS 3000u            /* for callout to say itself that it took too long */

static bool is_printable(struct bytes b)
{
	for (size_t i = 0; i < b.len; i++)
		if (b.at[i] < ' ' || b.at[i] > '~')
			return false;
	return true;
}

static bool take(const struct record *record, struct callout_said *said_r)
{
	struct callout_answer answer;
	bool good = record->type == REC_callout_answer && callout_answer_decode(record->payload, &answer) && answer.verdict < CALLOUT_VERDICTS
		&& is_printable(answer.host) && is_printable(answer.text)
		&& bytes_to_cstring(answer.host, said_r->host, sizeof said_r->host) && bytes_to_cstring(answer.text, said_r->text, sizeof said_r->text);
	if (good)
		said_r->verdict = (enum callout_verdict)answer.verdict;
	return good;
}

static bool say(int fd, struct bytes sender, deadline_t deadline)
{
	struct callout_ask question = { .sender = sender };
	struct str text = STR_INIT(ADDRESS_MAX + 100);
	bool said = callout_ask_encode(&question, &text) && io_write_by(fd, text.at, text.len, deadline) == 0;
	str_free(&text);
	return said;
}

/* NULL: it answered. */
static const char *hear(int fd, deadline_t deadline, struct callout_said *said_r)
{
	struct record_reader in;
	struct record record;
	int got;
	record_reader_init(&in, fd);
	do
		got = record_reader_wait(&in, &record, deadline);
	while (got < 0 && errno == EINTR);
	const char *fault = got == 1 ? (take(&record, said_r) ? NULL : "answered nonsense") : got < 0 && errno == ETIMEDOUT ? "did not answer in time" : "went away";
	record_reader_free(&in);
	return fault;
}

/* The directory of the socket is the resolver's: what stands there must be callout's. */
static const char *converse(const struct settings *settings, struct bytes sender, struct callout_said *said_r)
{
	uint64_t wait_ms = settings->callouttimeout * SECOND_MS + GRACE_MS;
	deadline_t deadline = deadline_in(clock_monotonic_ms(), wait_ms);
	int fd = sibling_connect(SOCKET_CALLOUT, ACCOUNT_REMOTE, wait_ms);
	if (fd < 0)
		return errno == EPERM ? "has a socket that belongs to somebody else" : "cannot be reached";
	const char *fault = io_set_nonblocking(fd, true) == 0 && say(fd, sender, deadline) ? hear(fd, deadline, said_r) : "takes no question";
	close(fd);
	return fault;
}

const struct callout_said *calloutask(struct calloutask *a, const struct settings *settings, struct bytes sender)
{
	if (a->asked && bytes_equal(bytes_of(a->sender), sender))
		return &a->said;
	*a = (struct calloutask){ .asked = bytes_to_cstring(sender, a->sender, sizeof a->sender) };
	a->away = a->asked ? converse(settings, sender, &a->said) : "cannot be asked about it";
	if (a->away == NULL)
		return &a->said;
	a->said = (struct callout_said){ .verdict = CALLOUT_UNKNOWN };
	bytes_to_cstring(LIT("nobody can be asked now"), a->said.text, sizeof a->said.text);
	return &a->said;
}

void calloutask_forget_unknown(struct calloutask *a)
{
	a->asked = a->asked && a->said.verdict != CALLOUT_UNKNOWN;
}
