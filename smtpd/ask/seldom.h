/*
 * seldom - a warning that every session would write alike is written once a minute by all of them together.
 *
 * However smtpd is started, each of its processes looks at one small file, SELDOM_FILE in SPOOL_DRAFT, where the times of warnings stand; the first that
 * wants it makes it. Who cannot use it (a session of another account) keeps the minute for itself.
 */
#ifndef SMTPD_SELDOM_H
#define SMTPD_SELDOM_H

#include "common/bytes.h"

#define SELDOM_FILE "said"
#define SELDOM_PAUSE_MS 60000u

/* May this be said now? True: say it, the others are silent for a minute. `what` is a word of ours, `about` a name in it, or empty. Two of them that
 * fall together in one of 256 places silence each other. Does not wait for anybody. */
bool seldom(const char *what, struct bytes about);

#endif
