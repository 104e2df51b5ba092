#include "cri/streaming/stream_status.h"

#include <jansson.h>
#include <stdio.h>

#include "base/str.h"

static json_t *
status_json(int exit_code, const struct error *err, const char *message)
{
    char code[16];
    (void)snprintf(code, sizeof code, "%d", exit_code);
    if (err)
        return json_pack("{s:s, s:s, s:s, s:i, s:{s:[{s:s}]}}", "status", "Failure", "reason", "InternalError", "message", message, "code", 500,
                         "details", "causes", "message", message);
    if (exit_code == 0)
        return json_pack("{s:s}", "status", "Success");
    return json_pack("{s:s, s:s, s:s, s:{s:[{s:s, s:s}]}}", "status", "Failure", "reason", "NonZeroExitCode", "message", message, "details", "causes",
                     "reason", "ExitCode", "message", code);
}

char *
stream_status(int version, int exit_code, const struct error *err)
{
    cleanup_free char *message =
        err ? str_printf("Internal error occurred: %s", err->message) : str_printf("command terminated with exit code %d", exit_code);
    if (version < 4)
        return !err && exit_code == 0 ? str_dup("") : steal(message);
    json_t *json = status_json(exit_code, err, message);
    /* NULL where the words are no UTF-8: they came from a command line, say. */
    char *text = json ? json_dumps(json, JSON_COMPACT)
                      : str_dup("{\"status\":\"Failure\",\"reason\":\"InternalError\",\"code\":500,\"message\":\"Internal error occurred\"}");
    json_decref(json);
    return text;
}
