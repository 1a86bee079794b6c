/* accounts - common room, used where privilege changes. See accounts.h. */
#include "accounts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"

#define PASSWD "/etc/passwd"
#define CHUNK 8192u    /* a longer line is no account */

struct scan {
	int fd;
	char text[CHUNK];
	size_t have, at;   /* octets read; where the next line begins */
	bool ended;
};

/* The octets that are not taken yet move to the front, and more come behind them. A full buffer without a line's end is let go: what
 * follows of that line has too few colons for an account. False: errno. */
static bool fill(struct scan *s)
{
	size_t rest = s->have - s->at;
	if (rest == sizeof s->text)
		rest = 0;
	memmove(s->text, s->text + s->have - rest, rest);
	s->at = 0;
	s->have = rest;
	ssize_t got;
	do
		got = read(s->fd, s->text + rest, sizeof s->text - rest);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		s->have += (size_t)got;
	s->ended = got == 0;
	return got >= 0;
}

/* False at the end, and when nothing can be read (then not ended). The last line may lack its end. */
static bool next_line(struct scan *s, struct bytes *line_r)
{
	for (;;) {
		struct bytes rest = { s->text + s->at, s->have - s->at };
		size_t end = bytes_find(rest, '\n');
		if (end < rest.len || (s->ended && rest.len > 0)) {
			*line_r = bytes_slice(rest, 0, end);
			s->at += end < rest.len ? end + 1 : end;
			return true;
		}
		if (s->ended || !fill(s))
			return false;
	}
}

/* name:password:uid:gid:... */
static bool read_line(struct bytes line, struct account *a)
{
	uint64_t uid, gid;
	struct bytes name = bytes_cut(&line, ':');
	bytes_cut(&line, ':');
	if (name.len == 0 || !bytes_to_cstring(name, a->name, sizeof a->name))
		return false;
	if (!bytes_to_u64(bytes_cut(&line, ':'), UINT32_MAX - 1, &uid) || !bytes_to_u64(bytes_cut(&line, ':'), UINT32_MAX - 1, &gid))
		return false;
	a->uid = (uid_t)uid;
	a->gid = (gid_t)gid;
	return true;
}

enum account_result account_scan(int fd, const char *name, uid_t uid, struct account *account_r)
{
	struct scan s = { .fd = fd };
	struct bytes line;
	while (next_line(&s, &line)) {
		if (read_line(line, account_r) && (name ? strcmp(account_r->name, name) == 0 : account_r->uid == uid))
			return ACCOUNT_FOUND;
	}
	return s.ended ? ACCOUNT_NONE : ACCOUNT_UNREADABLE;
}

static enum account_result look(const char *name, uid_t uid, struct account *account_r)
{
	int fd = open(PASSWD, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return ACCOUNT_UNREADABLE;
	enum account_result result = account_scan(fd, name, uid, account_r);
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

enum account_result account_by_name(const char *name, struct account *account_r)
{
	return look(name, 0, account_r);
}

enum account_result account_by_uid(uid_t uid, struct account *account_r)
{
	return look(NULL, uid, account_r);
}
