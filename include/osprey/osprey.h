// All of Osprey's public API.
#pragma once

#include "osprey/detections.h"
#include "osprey/draw.h"
#include "osprey/engine.h"
#include "osprey/error.h"
#include "osprey/image.h"
#include "osprey/photo_demo.h"
#include "osprey/version.h"
