/*
 * mailbox - which account receives a local recipient's mail. Room: common. Asks the system's name service; reads no file of a user.
 */
#include "mailbox.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "keylist.h"

static struct bytes after(struct bytes b, size_t n)
{
	return bytes_slice(b, n, b.len);
}

/* ---- `users` ---- */

struct assign { char kind; struct bytes key, user, uid, gid, home, extension; };

/* The grammar was checked when the settings were read (settings_grammar.c); the closing "." gives false. */
static bool split_assign(struct bytes line, struct assign *a_r)
{
	struct bytes rest = after(line, 1);
	if (line.len < 2)
		return false;
	a_r->kind = line.at[0];
	a_r->key = bytes_cut(&rest, ':');
	a_r->user = bytes_cut(&rest, ':');
	a_r->uid = bytes_cut(&rest, ':');
	a_r->gid = bytes_cut(&rest, ':');
	a_r->home = bytes_cut(&rest, ':');
	bytes_cut(&rest, ':');   /* the dash: always "-" in the names of dot files */
	a_r->extension = bytes_cut(&rest, ':');
	return true;
}

static bool fill_assigned(const struct assign *a, struct bytes local, struct mailbox *box)
{
	uint64_t uid = 0, gid = 0;
	char rest[sizeof box->extension] = "";
	if (!bytes_to_u64(a->uid, UINT32_MAX - 1, &uid) || !bytes_to_u64(a->gid, UINT32_MAX - 1, &gid) || uid == 0 || gid == 0)
		return false;
	if (a->kind == '+')
		bytes_to_cstring(after(local, a->key.len), rest, sizeof rest);
	struct str extension = STR_INIT(sizeof box->extension - 1);
	str_add(&extension, a->extension);
	str_add_c(&extension, rest);
	bool ok = !extension.failed && bytes_to_cstring(str_bytes(&extension), box->extension, sizeof box->extension)
		&& bytes_to_cstring(a->user, box->user, sizeof box->user) && bytes_to_cstring(a->home, box->home, sizeof box->home);
	str_free(&extension);
	box->uid = (uid_t)uid;
	box->gid = (gid_t)gid;
	box->is_virtual = true;
	return ok;
}

/* The line for a key that consists of the kind and a name. */
static bool find_line(const struct lines *users, char kind, struct bytes name, struct assign *a_r)
{
	char key[1 + ADDRESS_MAX];
	if (name.len >= sizeof key)
		return false;
	key[0] = kind;
	memcpy(key + 1, name.at, name.len);
	size_t i = keylist_find(users, (struct bytes){ key, name.len + 1 });
	return i < users->count && split_assign(users->at[i], a_r);
}

/* By "=address", "=localpart", then the longest "+prefix". */
static bool find_assigned(const struct settings *s, struct bytes address, struct bytes local, struct mailbox *box)
{
	struct assign a;
	bool found = find_line(&s->users, '=', address, &a) || find_line(&s->users, '=', local, &a);
	for (size_t n = local.len + 1; n-- > 0 && !found;)
		found = find_line(&s->users, '+', bytes_slice(local, 0, n), &a);
	return found && fill_assigned(&a, local, box);
}

/* ---- system users ---- */

/* Whoever does not own his home directory is no person (daemon, bin, our own accounts): qmail's rule. A directory that this
 * process may not look at counts as his: the worker, under his uid, will see. */
static enum mailbox_result check_home(const struct passwd *pw)
{
	struct stat st;
	if (pw->pw_dir[0] != '/' || strlen(pw->pw_dir) >= MAILBOX_HOME_MAX)
		return MAILBOX_NONE;
	if (stat(pw->pw_dir, &st) == 0)
		return S_ISDIR(st.st_mode) && st.st_uid == pw->pw_uid ? MAILBOX_FOUND : MAILBOX_NONE;
	if (errno == EACCES)
		return MAILBOX_FOUND;
	return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? MAILBOX_NONE : MAILBOX_UNSURE;
}

static bool is_account_name(const char *name)
{
	for (const char *c = name; *c; c++)
		if (*c <= ' ' || *c >= 127 || *c == ':' || *c == '/')
			return false;
	return name[0] != 0;
}

static enum mailbox_result find_account(const char *name, uint64_t minuid, struct mailbox *box)
{
	if (!is_account_name(name) || strlen(name) >= sizeof box->user)
		return MAILBOX_NONE;
	errno = 0;
	struct passwd *pw = getpwnam(name);
	/* getpwnam(3): these values of errno all mean that there is no such user. */
	if (!pw)
		return errno == 0 || errno == ENOENT || errno == ESRCH || errno == EBADF || errno == EPERM ? MAILBOX_NONE : MAILBOX_UNSURE;
	if (pw->pw_uid == 0 || pw->pw_gid == 0 || pw->pw_uid < minuid)
		return MAILBOX_NONE;
	enum mailbox_result result = check_home(pw);
	memcpy(box->user, name, strlen(name) + 1);
	box->uid = pw->pw_uid;
	box->gid = pw->pw_gid;
	memcpy(box->home, result == MAILBOX_FOUND ? pw->pw_dir : "", result == MAILBOX_FOUND ? strlen(pw->pw_dir) + 1 : 1);
	box->is_virtual = false;
	return result;
}

/* The whole local part, then ever shorter ones cut at the extension character. */
static enum mailbox_result find_system(const struct settings *s, const char *local, struct mailbox *box)
{
	char name[DESTINATION_MAX + 1];
	memcpy(name, local, strlen(local) + 1);
	for (size_t len = strlen(name);;) {
		name[len] = 0;
		enum mailbox_result result = find_account(name, s->minuid, box);
		if (result != MAILBOX_NONE) {
			const char *extension = local[len] ? local + len + 1 : "";
			return bytes_to_cstring(bytes_of(extension), box->extension, sizeof box->extension) ? result : MAILBOX_NONE;
		}
		if (s->extensionchar.len == 0)
			return MAILBOX_NONE;
		len = bytes_find_last(bytes_of(name), s->extensionchar.at[0]);
		if (name[len] == 0)
			return MAILBOX_NONE;
	}
}

/* ---- aliasnames ---- */

static enum mailbox_result find_alias(const struct settings *s, const char *local, struct mailbox *box)
{
	char account[sizeof box->user];
	for (size_t i = 0; i < s->aliasnames.count; i++) {
		if (!bytes_equal_nocase(s->aliasnames.at[i], bytes_of(local)))
			continue;
		if (!bytes_to_cstring(s->aliasuser, account, sizeof account) || !bytes_to_cstring(bytes_of(local), box->extension, sizeof box->extension))
			return MAILBOX_NONE;
		return find_account(account, 1, box);   /* the alias account may be below minuid */
	}
	return MAILBOX_NONE;
}

enum mailbox_result mailbox_find(const struct settings *s, const struct mailaddr *rcpt, const struct route *route, struct mailbox *box_r)
{
	memset(box_r, 0, sizeof *box_r);
	if (find_assigned(s, rcpt->text, bytes_of(route->local_part), box_r))
		return MAILBOX_FOUND;
	enum mailbox_result result = find_system(s, route->local_part, box_r);
	if (result == MAILBOX_NONE) {
		memset(box_r, 0, sizeof *box_r);
		result = find_alias(s, route->local_part, box_r);
	}
	return result;
}
