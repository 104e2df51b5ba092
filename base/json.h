/* jansson, with cleanup: `cleanup_json json_t *record = …`. (Its own json_auto_t needs the word `cleanup`, which is base/cleanup.h's macro.) */
#pragma once

#include <jansson.h>

#include "base/cleanup.h"

#define cleanup_json cleanup(json_decrefp)
