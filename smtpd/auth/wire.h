/*
 * wire - how an exchange of AUTH ended, as auth tells smtpd (record auth_done). What is unknown counts as AUTH_TEMPORARY.
 */
#ifndef SMTPD_AUTH_WIRE_H
#define SMTPD_AUTH_WIRE_H

#define AUTH_PLACES 1100u   /* connections of smtpd at a time, an exchange each */

enum auth_result {
	AUTH_OK,             /* 235 2.7.0 */
	AUTH_WRONG,          /* 535 5.7.8 */
	AUTH_TEMPORARY,      /* 454 4.7.0: nobody could say */
	AUTH_LIMITED,        /* 454 4.7.0: too many failures of this address or login */
	AUTH_CANCELLED,      /* 501 5.7.0: the client said "*" */
	AUTH_NOT_BASE64,     /* 501 5.5.2 */
	AUTH_NO_MECHANISM,   /* 504 5.5.4 */
};

#endif
