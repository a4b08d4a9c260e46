/* /livez: the process runs.  /readyz: it can do its work, because the registry answers. */
#include "control/api/api.h"

BH_HANDLER(bh_health_live)
{
    (void)request;
    (void)err;
    bh_buf_puts(&reply->body, "{\"status\":\"live\"}");
    return BH_OK;
}

BH_HANDLER(bh_health_ready)
{
    BH_TRY(bh_db_run(request->db, NULL, err, "SELECT 1"));
    bh_buf_puts(&reply->body, "{\"status\":\"ready\"}");
    return BH_OK;
}
