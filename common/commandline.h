/*
 * commandline - a program and its arguments as a line of a setting gives them: words with blanks between, no quotes, no shell.
 */
#ifndef COMMON_COMMANDLINE_H
#define COMMON_COMMANDLINE_H

#include "bytes.h"

#define COMMANDLINE_MAX 1000u       /* octets */
#define COMMANDLINE_WORDS 32u

struct commandline {
	char text[COMMANDLINE_MAX + 1];
	char *word[COMMANDLINE_WORDS + 2];   /* into text: the struct stays where it is. NULL behind the last, and room for one more */
	size_t count;
};

/* False: it is no absolute path, too long, has too many words or a NUL. */
bool commandline_parse(struct bytes line, struct commandline *c_r);
/* The program's file name, without its directories. */
const char *commandline_name(const struct commandline *c);

/* May this file be executed for strangers' mail: is it there, executable for us, root's, and can nobody else change or replace it? NULL: it may;
 * else what is wrong and what to do. Blocks on disk. */
const char *commandline_fault(const char *path);

#endif
