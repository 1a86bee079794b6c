/*
 * accounts - lines of /etc/passwd, read without the name service: a program that may do more than its caller opens no socket to a
 * cache and loads no module, and one that starts with every connection does not pay for them.
 */
#ifndef COMMON_ACCOUNTS_H
#define COMMON_ACCOUNTS_H

#include <sys/types.h>

#define ACCOUNT_NAME_MAX 63u

struct account {
	char name[ACCOUNT_NAME_MAX + 1];
	uid_t uid;
	gid_t gid;
};

enum account_result { ACCOUNT_FOUND, ACCOUNT_NONE, ACCOUNT_UNREADABLE /* errno; nobody knows who is in it */ };

/* The first line of that name, of that uid. Lines that are none (no numbers, too long, a name over ACCOUNT_NAME_MAX) are passed over. */
enum account_result account_by_name(const char *name, struct account *account_r);
enum account_result account_by_uid(uid_t uid, struct account *account_r);

/* The same out of an open file, from where it stands; name NULL: by uid. */
enum account_result account_scan(int fd, const char *name, uid_t uid, struct account *account_r);

#endif
