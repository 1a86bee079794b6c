/* foresee - queue's room, root: a question to guard. See foresee.h. */
#include "foresee.h"

#include <unistd.h>

#include "common/io.h"
#include "common/paths.h"
#include "common/sibling.h"
#include "smtpd/ask/guardreply.h"

#define WAIT_MS 5000u

static bool ask(int fd, const struct guard_peek *question, struct guard_answer *answer_r)
{
	struct str text = STR_INIT(2048);
	struct record_reader in;
	struct record record;
	deadline_t deadline = deadline_in(clock_monotonic_ms(), WAIT_MS);
	bool sent = io_set_nonblocking(fd, true) == 0 && guard_peek_encode(question, &text) && io_write_by(fd, text.at, text.len, deadline) == 0;
	bool good;

	record_reader_init(&in, fd);
	good = sent && record_reader_wait(&in, &record, deadline) == 1 && guardreply_take(&record, answer_r);
	record_reader_free(&in);
	str_free(&text);
	return good;
}

bool foresee(const struct guard_peek *question, struct guard_answer *answer_r)
{
	int fd = sibling_connect(SOCKET_GUARD, ACCOUNT_GUARD, WAIT_MS);
	bool answered = fd >= 0 && ask(fd, question, answer_r);

	if (fd >= 0)
		close(fd);
	return answered;
}

uint32_t foresee_line(const struct lines *limits, const struct guard_peek *question, const struct guard_answer *answer)
{
	struct netaddr client = { 0 };
	struct limit l;
	const char *why;
	unsigned best = 0;
	uint32_t line = 0;
	struct bytes domain = bytes_slice(question->recipient, bytes_find_last(question->recipient, '@') + 1, question->recipient.len);

	(void)netaddr_parse(question->client, &client);
	for (size_t i = 0; i < limits->count; i++) {
		if (!limit_parse(limits->at[i], &l, &why) || l.none || l.subject != answer->subject || l.what != answer->what)
			continue;
		unsigned fits = limit_fits(&l, l.subject == LIMIT_LOGIN ? question->login : domain, &client);
		if (fits > best && l.window_s == answer->window_s && l.count == answer->limit) {
			best = fits;
			line = limits->number[i];
		}
	}
	return line;
}
