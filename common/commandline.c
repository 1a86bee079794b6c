/* commandline - a program and its arguments. Room: common. See commandline.h. */
#include "commandline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool commandline_parse(struct bytes line, struct commandline *c)
{
	c->count = 0;
	if (!bytes_to_cstring(line, c->text, sizeof c->text) || c->text[0] != '/')
		return false;
	for (char *at = c->text; *at != '\0';) {
		if (c->count == COMMANDLINE_WORDS)
			return false;
		c->word[c->count++] = at;
		at += strcspn(at, " \t");
		if (*at != '\0')
			*at++ = '\0';
		at += strspn(at, " \t");
	}
	c->word[c->count] = NULL;
	return true;
}

const char *commandline_name(const struct commandline *c)
{
	return strrchr(c->word[0], '/') + 1;
}

/* In a sticky directory nobody replaces what is another's. */
static bool others_write(const struct stat *st)
{
	return st->st_uid != 0 || ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0 && !(S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0));
}

static bool directory_is_safe(const char *path)
{
	char directory[COMMANDLINE_MAX + 1];
	struct stat st;
	size_t len = (size_t)(strrchr(path, '/') - path) + 1;
	return bytes_to_cstring((struct bytes){ path, len }, directory, sizeof directory) && stat(directory, &st) == 0 && !others_write(&st);
}

const char *commandline_fault(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return errno == ENOENT ? "it does not exist; install it, or take it out of the list" : "it cannot be looked at; its directories must be open to all";
	if (!S_ISREG(st.st_mode))
		return "it is no file; name a program";
	if (others_write(&st))
		return "others than root can change it; chown it to root and take away their right to write (chmod go-w)";
	if (!directory_is_safe(path))
		return "others than root can replace it; keep it in a directory that only root can write to";
	if (access(path, X_OK) < 0)
		return "it may not be executed; chmod a+rx, and nothing mounted noexec";
	return NULL;
}
