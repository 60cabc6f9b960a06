// All that a program in C++ needs to train a network and to predict with it.
#pragma once

#include "network/inference.hpp"
#include "network/training_step.hpp"
