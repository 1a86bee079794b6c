/*
 * places - have the daemons that smtpd asks room for all of its sessions? Their tables are bounded, smtpdsessions goes further.
 */
#ifndef SMTPD_PLACES_H
#define SMTPD_PLACES_H

#include "common/settings.h"

/* `tell` gets a sentence, without its stop, for each daemon that these settings need and that serves fewer than smtpdsessions. */
void places_look(const struct settings *settings, void (*tell)(const char *sentence));

#endif
