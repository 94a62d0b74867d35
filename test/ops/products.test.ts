import test from 'ava';
import { battery } from '../helpers/battery.js';
import { cases } from './products.cases.js';

battery(test, cases);
