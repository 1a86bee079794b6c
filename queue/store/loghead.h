/*
 * loghead - the head of a record of the message log (msglog.h has the format), for its writer and for those who prove one record.
 * Room: queue.
 */
#ifndef QUEUE_LOGHEAD_H
#define QUEUE_LOGHEAD_H

#include <stdbool.h>
#include <stdint.h>

#define MSGLOG_HEAD 32u

struct msglog_head { uint32_t length, batch; uint64_t segment, run; uint32_t payload_crc; };

void msglog_head_encode(const struct msglog_head *head, char out[MSGLOG_HEAD]);
bool msglog_head_decode(const char in[MSGLOG_HEAD], struct msglog_head *head_r);   /* false: its own checksum is wrong */

#endif
