// Marks what the shared library exports.
#pragma once

#define OSPREY_API __attribute__((visibility("default")))
