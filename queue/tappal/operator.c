/*
 * operator - see operator.h. Room: queue, the operator's own uid.
 */
#include "operator.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "common/paths.h"
#include "show.h"
#include "tappal.h"

#define FORGOTTEN_MS (10 * MINUTE_MS)
#define SILENCE_MS (2 * MINUTE_MS)   /* queued answers in a turn; a long commit may stand in between */

/* The one thing to remove when a signal ends us. */
static struct { int directory; char name[27]; } leftover = { .directory = -1 };

static void remove_leftover(void)
{
	if (leftover.directory >= 0)
		unlinkat(leftover.directory, leftover.name, 0);
	leftover.directory = -1;
}

static void ended_by_signal(int number)
{
	remove_leftover();
	_exit(128 + number);
}

/* A name of 26 characters of the id's alphabet, random. */
static void make_name(char name[27])
{
	char part[MSGID_TEXT + 1];
	uint64_t random[3];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		tool_stop("no random numbers: %s", strerror(errno));
	name[0] = '\0';
	for (size_t i = 0; i < 3; i++) {
		msgid_format(random[i] & MSGID_MAX, part);
		memcpy(name + i * MSGID_TEXT, part, i < 2 ? MSGID_TEXT : 26 - 2 * MSGID_TEXT);
	}
	name[26] = '\0';
}

/* queued is of group tappal, which owns reply/: through that group it may write to our fifo. */
static void open_reply(struct operator_line *o)
{
	struct stat st;

	o->directory = open(SPOOL_REPLY, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	make_name(o->name);
	if (o->directory < 0 || fstat(o->directory, &st) != 0 || mkfifoat(o->directory, o->name, 0600) != 0) {
		if (errno == EACCES)
			tool_stop("you may not steer the queue: that takes root or a member of group %s. To become one: `adduser USER %s` as root, then log in again. "
				"Nothing was done", GROUP_OPERATOR, GROUP_OPERATOR);
		tool_stop("%s/%s: %s. Nothing was done", path_spool, SPOOL_REPLY, strerror(errno));
	}
	leftover.directory = o->directory;
	memcpy(leftover.name, o->name, sizeof(leftover.name));
	atexit(remove_leftover);
	signal(SIGINT, ended_by_signal);
	signal(SIGTERM, ended_by_signal);
	signal(SIGHUP, ended_by_signal);
	o->reply = io_open_fifo_read(o->directory, o->name);
	o->keep = o->reply >= 0 ? io_open_fifo_write(o->directory, o->name) : -1;
	if (o->keep < 0 || fchown(o->reply, (uid_t)-1, st.st_gid) != 0 || fchmod(o->reply, 0620) != 0)
		tool_stop("%s/%s/%s: %s. Nothing was done", path_spool, SPOOL_REPLY, o->name, strerror(errno));
}

/* The fifo of one who was killed: old, and nobody reads it. reply/ is sticky, so each clears only what is his; root clears all. */
static void sweep_one(int directory, const char *name, wall_ms_t now)
{
	struct stat st;

	if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISFIFO(st.st_mode) || (wall_ms_t)st.st_mtim.tv_sec * SECOND_MS + FORGOTTEN_MS > now)
		return;
	int fd = io_open_fifo_write(directory, name);
	if (fd >= 0)
		close(fd);
	else if (errno == ENXIO)
		unlinkat(directory, name, 0);
}

void operator_sweep(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
		sweep_one(directory, entry->d_name, clock_wall_ms());
	closedir(dir);
}

static void open_control(struct operator_line *o)
{
	o->control = io_open_fifo_write(AT_FDCWD, FIFO_CONTROL);
	if (o->control >= 0)
		return;
	if (errno == ENXIO)
		tool_stop("queued is not running, so nothing was done. Start it, then give the command again");
	if (errno == EACCES)
		tool_stop("you may not steer the queue: that takes root or a member of group %s. Nothing was done", GROUP_OPERATOR);
	tool_stop("%s/%s: %s. Nothing was done", path_spool, FIFO_CONTROL, strerror(errno));
}

/* Who is told in hold reasons and in the log: the login name, and who became root through sudo. */
static void find_who(char who[64])
{
	const struct passwd *pw = getpwuid(getuid());
	const char *sudo = getuid() == 0 ? getenv("SUDO_USER") : NULL;

	if (pw == NULL)
		snprintf(who, 64, "uid %lu", (unsigned long)getuid());
	else if (sudo != NULL)
		snprintf(who, 64, "%.30s (%.30s)", pw->pw_name, sudo);
	else
		snprintf(who, 64, "%.60s", pw->pw_name);
}

void operator_open(struct operator_line *o, operator_fn *answer, void *context)
{
	*o = (struct operator_line){ .control = -1, .reply = -1, .keep = -1, .answer = answer, .context = context };
	signal(SIGPIPE, SIG_IGN);
	open_control(o);
	open_reply(o);
	operator_sweep(o->directory);
	find_who(o->who);
	record_reader_init(&o->reader, o->reply);
	if (getrandom(&o->first_token, sizeof(o->first_token), 0) != sizeof(o->first_token))
		o->first_token = clock_wall_ms();
	o->next_token = o->first_token;
}

static _Noreturn void queued_went(const struct operator_line *o)
{
	tool_stop("queued ended before it answered; %u operation%s may have been carried out or not. `tappal queue list` tells when it runs again", o->under_way,
		o->under_way == 1 ? "" : "s");
}

static void take_answer(struct operator_line *o, const struct operated *operated)
{
	for (unsigned i = 0; i < OPERATOR_WINDOW; i++) {
		if (!o->sent[i].open || o->sent[i].token != operated->token)
			continue;
		o->sent[i].open = false;
		o->under_way--;
		o->answer(o->context, &o->sent[i], operated->done != 0, operated->text);
		return;
	}
}

static void take_answers(struct operator_line *o)
{
	struct record record;
	struct operated operated;
	enum record_result r;

	if (record_reader_fill(&o->reader) < 0 && errno != EAGAIN && errno != ENOBUFS)
		tool_stop("the reply fifo: %s", strerror(errno));
	while ((r = record_reader_next(&o->reader, &record)) == RECORD_OK)
		if (record.type == REC_operated && operated_decode(record.payload, &operated))
			take_answer(o, &operated);
	if (r == RECORD_BAD)
		tool_stop("something that is no record came up the reply fifo; %u operations are without an answer", o->under_way);
}

/* Wait for an answer, or (`to_send`) for room in the control fifo. */
static void wait_once(struct operator_line *o, bool to_send)
{
	struct pollfd fds[2] = { { o->reply, POLLIN, 0 }, { o->control, to_send ? POLLOUT : 0, 0 } };
	int n;

	do {
		n = poll(fds, 2, SILENCE_MS);
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		tool_stop("queued has not answered for %u seconds; %u operation%s may yet be carried out", SILENCE_MS / SECOND_MS, o->under_way, o->under_way == 1 ? "" : "s");
	if (fds[0].revents & POLLIN)
		take_answers(o);
	else if (fds[1].revents & POLLERR)
		queued_went(o);
}

static unsigned free_place(const struct operator_line *o)
{
	unsigned i = 0;

	while (o->sent[i].open)
		i++;
	return i;
}

void operator_send(struct operator_line *o, uint8_t op, msgid_t id, uint32_t index, struct bytes reason)
{
	struct operate operate = { .token = o->next_token++, .reply = bytes_of(o->name), .op = op, .id = id, .index = index, .who = bytes_of(o->who), .reason = bytes_slice(reason, 0, 1000) };
	struct str out = STR_INIT(4096);
	unsigned place;

	while (o->under_way == OPERATOR_WINDOW)
		wait_once(o, false);
	if (!operate_encode(&operate, &out))
		tool_stop("the operation could not be written down");
	place = free_place(o);
	o->sent[place] = (struct operation_sent){ .token = operate.token, .id = id, .index = index, .name = reason };
	/* One write of at most PIPE_BUF octets: all of it or EAGAIN. */
	while (write(o->control, out.at, out.len) < 0) {
		if (errno == EPIPE)
			queued_went(o);
		if (errno != EAGAIN && errno != EINTR)
			tool_stop("fifo/control: %s", strerror(errno));
		wait_once(o, true);
	}
	o->sent[place].open = true;
	o->under_way++;
	str_free(&out);
}

void operator_wait_all(struct operator_line *o)
{
	while (o->under_way > 0)
		wait_once(o, false);
}

void operator_close(struct operator_line *o)
{
	remove_leftover();
	record_reader_free(&o->reader);
	close(o->control);
	close(o->reply);
	close(o->keep);
	close(o->directory);
}
