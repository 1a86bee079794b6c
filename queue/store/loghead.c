/* loghead - room: queue. See loghead.h. */
#include "loghead.h"

#include "common/crc32c.h"
#include "common/wire.h"

void msglog_head_encode(const struct msglog_head *head, char out[MSGLOG_HEAD])
{
	wire_put(out, head->length, 4);
	wire_put(out + 4, head->batch, 4);
	wire_put(out + 8, head->segment, 8);
	wire_put(out + 16, head->run, 8);
	wire_put(out + 24, head->payload_crc, 4);
	wire_put(out + 28, crc32c(0, out, 28), 4);
}

bool msglog_head_decode(const char in[MSGLOG_HEAD], struct msglog_head *head_r)
{
	*head_r = (struct msglog_head){
		.length = (uint32_t)wire_get(in, 4),
		.batch = (uint32_t)wire_get(in + 4, 4),
		.segment = wire_get(in + 8, 8),
		.run = wire_get(in + 16, 8),
		.payload_crc = (uint32_t)wire_get(in + 24, 4),
	};
	return (uint32_t)wire_get(in + 28, 4) == crc32c(0, in, 28);
}
